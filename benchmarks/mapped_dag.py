"""Run a DAG with a task of many mapped instances in this process, and tell the seconds and how many results arrived."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session

from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.python import RayPythonOperator

BUNDLE = "benchmarks"


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def total(numbers: list[int]) -> int:
    """Return the sum."""
    return sum(numbers)


def main(conn_id: str, number: int) -> None:
    """Run the DAG and check what the last task got from all instances.

    :param conn_id: connection to Ray.
    :param number: how many instances.
    """
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
        doubled = RayPythonOperator.partial(task_id="double", python_callable=double, ray_conn_id=conn_id).expand(
            op_args=[[each] for each in range(number)]
        )
        RayPythonOperator(
            task_id="total", python_callable=total, op_args=[doubled.output], ray_conn_id=conn_id, result="value"
        )
    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))
        session.flush()
        model: Any = DagModel
        session.merge(model(dag_id=dag.dag_id, bundle_name=BUNDLE, fileloc=dag.fileloc))
    SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=BUNDLE)
    with RayHook(conn_id).connect() as hook:
        # The warm connection of this process: each instance has its own in a process of its own.
        started = time.perf_counter()
        run = dag.test()
        seconds = time.perf_counter() - started
        listed = hook.list_objects(dag_id=dag.dag_id)
    if run.state != "success":
        raise RuntimeError(f"The run is {run.state}")
    arrived = [each for each in listed if each["state"] == "SUCCEEDED" and "/double/" in each["uri"]]
    print(seconds, len(arrived))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
