"""Runs a DAG in this process, its tasks one after another, with a real database and real XComs."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session

from airflow_ray._compat import xcom_values

BUNDLE = "tests"


class DagRunResult:
    """What a DAG run left in Airflow's database."""

    def __init__(self, dag_run: Any) -> None:
        self.state = str(dag_run.state)
        self.run_id = dag_run.run_id
        self._dag_run = dag_run

    def task_states(self, task_id: str) -> list[str]:
        return [str(ti.state) for ti in self._dag_run.get_task_instances() if ti.task_id == task_id]

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        with create_session() as session:
            where = {"task_id": task_id, "map_index": map_index, "key": key}
            query, _ = xcom_values(self._dag_run.dag_id, self.run_id, **where)
            row = session.scalar(query)
        return XComModel.deserialize_value(type("Row", (), {"value": row}))


class TaskInstance:
    """As much of a task instance as an operator asks of it, for what no DAG run in one process can show."""

    run_id, task_id = "manual__by_hand", "by_hand"

    def __init__(self, dag_id: str, max_tries: int = 0, try_number: int = 1, map_index: int = -1) -> None:
        self.map_index = map_index
        self.id = uuid.uuid4()
        self.dag_id = dag_id
        self.max_tries = max_tries
        self.try_number = try_number
        self.start_date = datetime.now(timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""


class OfRun:
    """As much of a DAG run as an operator asks of it."""

    conf: dict[str, Any] = {}

    def __init__(self, clear_number: int | None = 0, start_date: datetime | None = None) -> None:
        self.clear_number = clear_number
        self.start_date = self.run_after = start_date


def context_of(dag_id: str, clear_number: int | None = 0, start_date: datetime | None = None, **ti: int) -> Any:
    """Return as much of the context of a task as an operator asks of it."""
    return {"ti": TaskInstance(dag_id, **ti), "dag_run": OfRun(clear_number, start_date), "params": {}}


def new_dag(params: dict[str, Any]) -> DAG:
    """Return a DAG with a name of its own, whose Ray tasks go through the gateway."""
    return DAG(
        dag_id=f"dag_{uuid.uuid4().hex}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        default_args={"ray_conn_id": "ray_gateway"},
        params=params,
    )


def run_dag(dag: DAG, conf: dict[str, Any] | None = None, **more: Any) -> DagRunResult:
    with create_session() as session:
        if session.get(DagBundleModel, BUNDLE) is None:
            session.add(DagBundleModel(name=BUNDLE))
            session.flush()
        session.merge(DagModel(dag_id=dag.dag_id, bundle_name=BUNDLE, fileloc=dag.fileloc))
    SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=BUNDLE)
    return DagRunResult(dag.test(run_conf=conf, **more))
