"""The only module that knows Airflow's versions apart."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
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
    from airflow.sdk.bases.xcom import BaseXCom
except ImportError as error:
    from airflow import __version__ as _airflow_version

    raise ImportError(
        f"This is Airflow {_airflow_version}; airflow-ray needs Apache Airflow 3.1.1 or newer, with "
        "apache-airflow-providers-common-compat 1.12 or newer. Upgrade Airflow, or uninstall airflow-ray; 'pip check' "
        f"names what does not fit together. Missing: {error}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of Airflow itself: other modules take these from here.
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
    "BaseXCom",
    "DecoratedOperator",
    "conf",
    "task_decorator_factory",
]


def in_task() -> bool:
    """Return whether this process runs an Airflow task, which can ask Airflow for XComs."""
    from airflow.sdk.execution_time import task_runner

    return hasattr(task_runner, "SUPERVISOR_COMMS")


def in_test_mode() -> bool:
    """Return whether this process tries a task out, by ``airflow tasks test``."""
    return os.environ.get("AIRFLOW_TEST_MODE") == "True"


def current_task() -> Any:
    """Return the operator that this process renders or executes at the moment, a mapped one as such, or None."""
    from airflow.sdk import get_current_context

    try:
        return get_current_context()["ti"].task
    except RuntimeError:
        return None


def functions_of_maps(task: Any) -> Iterator[list[Callable[[Any], Any]]]:
    """Yield the functions of each ``.map(…)`` among the arguments of an operator; a change of the list counts.

    :param task: the operator, a mapped one as such, or any part of its arguments.
    """
    if type(task) in (list, tuple, set):
        parts = [*task]
    elif type(task) is dict:
        parts = [*task.values()]
    elif hasattr(task, "expand_input"):
        parts = [task.partial_kwargs, task.expand_input, getattr(task, "op_kwargs_expand_input", None)]
    elif hasattr(task, "template_fields"):
        parts = [getattr(task, field, None) for field in task.template_fields]
    elif type(task).__module__.startswith("airflow."):
        if isinstance(functions := getattr(task, "callables", None), list):
            yield functions
        parts = [getattr(task, name, None) for name in ("arg", "args", "value", "values", "_input")]
    else:
        return
    for part in parts:
        yield from functions_of_maps(part)


def on_changed_sources(sequence: Any, change: Callable[[Any], Any]) -> Any:
    """Return a lazy sequence with that in place of the values which it maps, zips or concatenates.

    :param change: gets each of these values; any other sequence is one itself.
    """
    for name in ("value", "values"):
        if type(sequence).__module__.startswith("airflow.") and hasattr(sequence, name):
            source = getattr(sequence, name)
            changed = copy.copy(sequence)
            sources = [on_changed_sources(each, change) for each in (source if name == "values" else [source])]
            setattr(changed, name, sources if name == "values" else sources[0])
            return changed
    return change(sequence)


def pull_xcom(key: str, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Return an XCom of any task instance, or None; only for a process that runs a task."""
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def states_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> list[str | None]:
    """Return the state of a task instance if Airflow knows it; only for a process that runs tasks or triggers."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(dag_id, map_index=map_index, task_ids=[task_id], run_ids=[run_id])
    return list(states.get(run_id, {}).values())


def is_by_a_person(cancellation: BaseException) -> bool:
    """Return whether a triggerer cancels a trigger since its task waits no more; it tells from Airflow 3.3 on."""
    # Loaded in a triggerer, and not to be loaded elsewhere for this.
    runner = sys.modules.get("airflow.jobs.triggerer_job_runner")
    return cancellation.args[:1] == (getattr(runner, "_USER_ACTION_CANCEL_MSG", None),)


def knows_reassigned_triggers() -> bool:
    """Return whether a triggerer can tell which of its triggers another one has taken over, as Airflow 3.4 can."""
    from airflow.jobs import triggerer_job_runner

    return "to_release" in triggerer_job_runner.messages.TriggerStateSync.model_fields


def push_xcom(key: str, value: Any, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
    """Store an XCom of any task instance; only for a process that runs a task."""
    from airflow.sdk.execution_time.xcom import XCom

    XCom.set(key=key, value=value, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def rendered_fields(dag_id: str, run_id: str, *, task_id: str | None = None, map_index: int | None = None) -> Any:
    """Return the query for the rendered fields of a run's tasks, or of one task instance."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = select(RenderedTaskInstanceFields.rendered_fields)
    # From Airflow 3.4 on they know the task instance alone.
    model: Any = RenderedTaskInstanceFields if hasattr(RenderedTaskInstanceFields, "run_id") else TaskInstance
    if model is TaskInstance:
        query = query.join(TaskInstance, TaskInstance.id == RenderedTaskInstanceFields.task_instance_id)
    query = query.where(model.dag_id == dag_id, model.run_id == run_id)
    if task_id is not None:
        query = query.where(model.task_id == task_id, model.map_index == map_index)
    return query


def xcom_values(
    dag_id: str, run_id: str, *, task_id: str | None = None, map_index: int | None = None, key: str | None = None
) -> tuple[Any, Any]:
    """Return the query for what Airflow's database stores for the XComs of a run, and the column with it.

    From Airflow 3.4 on they are in another table, while those of earlier runs stay in the old one.
    """
    from airflow.models import xcom

    where: dict[str, Any] = {"dag_ids": dag_id, "task_ids": task_id, "map_indexes": map_index, "key": key}
    xcoms: Any = xcom.XComModel
    if not hasattr(xcom, "xcom_entity"):
        return xcoms.get_many(run_id=run_id, **where).with_only_columns(xcoms.value), xcoms.value
    # Those of loops too.
    query = xcoms.get_many(run_id=run_id, region_id=None, **where)
    column = xcom.xcom_entity(query).value
    return query.with_only_columns(column), column


def is_run_unfinished(dag_id: str, run_id: str) -> bool:
    """Return whether a DAG run is there and has not ended, from a task or from a process with Airflow's database."""
    states = ["queued", "running"]
    if in_task():
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        return RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=states) > 0
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        of_run = select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        return session.scalar(of_run) in states


def region_of(instance: Any) -> str:
    """Return the region of an object URI, from Airflow 3.4 on: that of a task which is mapped or in a loop.

    :param instance: a task instance, or an XCom's coordinate. Its own id will not do: each try has another one.
    """
    region_id = getattr(instance, "region_id", None)
    return f"{region_id.hex}.{instance.region_index}" if region_id is not None and region_id.int else ""


def store_with(backend: type[BaseXCom], coordinate: Any, key: str, value: Any) -> Any:
    """Return what the database stores for a value, by whichever of its two ways an XCom backend prefers.

    :param coordinate: that of Airflow 3.4.
    """
    index = -1 if coordinate.region_index is None else coordinate.region_index
    return backend._store(coordinate, index, key, value)  # type: ignore[attr-defined]  # not there before 3.4


def load_with(backend: type[BaseXCom], result: Any) -> Any:
    """Return the value of an XCom, by whichever of its ways a backend prefers: before Airflow 3.4 it has one."""
    return getattr(backend, "_load", backend.deserialize_value)(result)


def bundle_folders(context: Any) -> list[str]:
    """Return the root folder of the DAG bundle that the running task comes from, if it has one.

    :param context: the task's context.
    """
    bundle = getattr(context["ti"], "bundle_instance", None)
    return [str(bundle.path)] if bundle is not None else []


def trigger_log_path(ti: Any) -> Path | None:
    """Return what the names of a trigger's log files begin with, or None where no triggerer runs it.

    :param ti: the task instance that waits, or None.
    """
    if ti is None or not _in_triggerer():
        return None
    from airflow.utils.helpers import parse_template_string, render_template

    _, template = parse_template_string(conf.get("logging", "log_filename_template"))
    if template is None:
        return None
    # A template of somebody's own may ask for what is not known here.
    try:
        name = render_template(template, {"ti": ti, "try_number": ti.try_number}, native=False)
    except Exception:
        return None
    return Path(conf.get("logging", "base_log_folder"), name)


def stats() -> Any:
    """Return Airflow's own statistics: ``gauge``, ``incr`` and ``timing``.

    From Airflow 3.2 on there are those of its core and those of its task SDK, of which each process begins one only.
    """
    return _stats_of("airflow.observability.stats" if _in_triggerer() else "airflow.sdk.observability.stats")


def has_legacy_stat_names() -> bool:
    """Return whether metrics are also to be told under names that hold what tags tell."""
    return bool(conf.getboolean("metrics", "legacy_names_on", fallback=True))


@cache
def _stats_of(half: str) -> Any:
    try:
        return importlib.import_module(half).Stats
    except ImportError:
        return importlib.import_module("airflow.stats").Stats


def _in_triggerer() -> bool:
    from airflow.sdk.execution_time import task_runner

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "TriggerCommsDecoder"


@contextmanager
def connections_of_database() -> Iterator[None]:
    """Let this process, which runs no task, find connections in Airflow's database too, as Airflow's commands do."""
    name = "_AIRFLOW_PROCESS_CONTEXT"
    earlier = os.environ.get(name)
    os.environ[name] = "server"
    try:
        yield
    finally:
        del os.environ[name]
        if earlier is not None:
            os.environ[name] = earlier
