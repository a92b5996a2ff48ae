"""The only module that knows Airflow's versions apart."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    DecoratedOperator,
    conf,
    task_decorator_factory,
)

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "DecoratedOperator",
    "bundle_folders",
    "conf",
    "in_task",
    "pull_xcom",
    "task_decorator_factory",
]


def in_task() -> bool:
    """Return whether this process runs an Airflow task, which can ask Airflow for XComs."""
    from airflow.sdk.execution_time import task_runner

    return hasattr(task_runner, "SUPERVISOR_COMMS")


def pull_xcom(key: str, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Return an XCom of any task instance, or None; only for a process that runs a task."""
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def bundle_folders(context: Any) -> list[str]:
    """Return the root folder of the DAG bundle that the running task comes from, if it has one.

    :param context: the task's context.
    """
    bundle = getattr(context["ti"], "bundle_instance", None)
    return [str(bundle.path)] if bundle is not None else []
