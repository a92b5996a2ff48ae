"""What Airflow's database knows of Ray: the connections, which of them a run has used, and where the dashboard is."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from typing import Any

from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.log.log_reader import TaskLogReader
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import joinedload

from airflow_ray._compat import conf, rendered_fields, xcom_values
from airflow_ray.client.connection.settings import CONN_TYPE
from airflow_ray.client.run_cluster import has_placeholder
from airflow_ray.exceptions import ObjectURIError
from airflow_ray.object_uri import SCHEME, ObjectURI

ENVIRONMENT_PREFIX = "AIRFLOW_CONN_"
XCOM_BACKEND = "airflow_ray.xcom.RayXComBackend"
# Under which the operators tell the address.
DASHBOARD_KEY = "_link_RayDashboardLink"


def ray_connections() -> dict[str, bool]:
    """Return the ids of the connections of type ``ray`` that Airflow can list: of its database and the environment.

    :returns: with each, whether it leads to several clusters.
    """
    with create_session() as session:
        query = select(Connection.conn_id, Connection.host).where(Connection.conn_type == CONN_TYPE)
        of_database = {conn_id: host for conn_id, host in session.execute(query)}
    hosts = {**of_database, **_of_environment()}
    return {conn_id: has_placeholder(hosts[conn_id] or "") for conn_id in sorted(hosts)}


def connections_of(dag_id: str, run_id: str, task_id: str | None = None, map_index: int = -1) -> list[str]:
    """Return the ids of the connections that a run, or one task instance of it, has used.

    That tell the rendered fields of its tasks, of which Airflow keeps those of the latest runs, and the object URIs
    among its XComs.
    """
    found = set()
    instance: Any = {} if task_id is None else {"task_id": task_id, "map_index": map_index}
    values, column = xcom_values(dag_id, run_id, **instance)
    with create_session() as session:
        for query in (
            rendered_fields(dag_id, run_id, **instance),
            values.where(cast(column, Text).like(f'%"{SCHEME}%')),
        ):
            for value in session.scalars(query):
                found |= _connections_in(value)
    if conf.get("core", "xcom_backend", fallback="") == XCOM_BACKEND:
        found.add(conf.get("airflow_ray", "xcom_conn_id", fallback="ray_default"))
    return sorted(found)


def is_under_way(dag_id: str, run_id: str) -> bool:
    """Whether tasks of a run may still come."""
    with create_session() as session:
        state = session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return state in State.unfinished_dr_states


def dashboard_url(dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
    """Return where a task has told that the Ray dashboard shows its work."""
    query, _ = xcom_values(dag_id, run_id, task_id=task_id, map_index=map_index, key=DASHBOARD_KEY)
    with create_session() as session:
        value = session.scalar(query)
    text = str(value or "").strip('"')
    # Whoever may write an XCom must not choose what a browser runs.
    return text if text.startswith(("http://", "https://")) else None


def log_tail(dag_id: str, run_id: str, task_id: str, map_index: int, lines: int) -> list[str]:
    """Return the last lines of the log of a task instance as Airflow shows it, which hides secrets.

    It may take as long as the machine that has the log.
    """
    where = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    # What reads the log ends the session.
    more = TaskInstance.dag_run, TaskInstance.dag_model, TaskInstance.trigger
    query: Any = select(TaskInstance).filter_by(**where).options(*map(joinedload, more))
    query = query.options(joinedload(TaskInstance.trigger).joinedload(Trigger.triggerer_job))
    with create_session() as session:
        instance = session.scalar(query)
        if instance is None or not instance.try_number:
            return []
        whole: Any = {"download_logs": True}
        entries, _ = TaskLogReader().read_log_chunks(instance, instance.try_number, whole)
        return [str(getattr(entry, "event", entry)) for entry in deque(entries, lines)]


def _of_environment() -> dict[str, str | None]:
    """Return those that environment variables define, as Airflow looks them up: in small letters; and their hosts."""
    names = [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]
    found = {}
    for conn_id in (name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in names):
        # That of somebody else may be malformed.
        with suppress(Exception):
            connection = Connection.get_connection_from_secrets(conn_id)
            if connection.conn_type == CONN_TYPE:
                found[conn_id] = connection.host
    return found


def _connections_in(value: Any) -> set[str]:
    """Return the connection that rendered fields name, or those of the object URIs in an XCom."""
    if isinstance(value, dict) and isinstance(value.get("ray_conn_id"), str):
        return {value["ray_conn_id"]}
    if isinstance(value, str):
        if value.startswith(SCHEME):
            with suppress(ObjectURIError):
                return {ObjectURI.parse(value).conn_id}
        # What a task itself has set is JSON inside the JSON of the column.
        with suppress(ValueError):
            return _connections_in(json.loads(value)) if value[:1] in ('"', "{", "[") else set()
        return set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_connections_in, parts)) if parts else set()
