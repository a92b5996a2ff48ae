"""The only module that knows Airflow's versions apart."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseHook,
    BaseOperator,
    DecoratedOperator,
    conf,
    task_decorator_factory,
)

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "DecoratedOperator",
    "bundle_folders",
    "conf",
    "task_decorator_factory",
]


def bundle_folders(context: Any) -> list[str]:
    """Return the root folder of the DAG bundle that the running task comes from, if it has one.

    :param context: the task's context.
    """
    bundle = getattr(context["ti"], "bundle_instance", None)
    return [str(bundle.path)] if bundle is not None else []
