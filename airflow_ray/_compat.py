"""The only module that knows Airflow's versions apart."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook, BaseOperator
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout

try:
    from airflow.sdk.configuration import conf
except ImportError:  # Airflow 3.1
    from airflow.configuration import conf

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
