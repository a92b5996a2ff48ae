"""DAGs whose runs have a Ray cluster each: one hands a frame from task to task, one reads what another run has left."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_ray.decorators import ray_task
from airflow_ray.operators.kuberay import CreateRayClusterOperator, DeleteRayClusterOperator
from airflow_ray.operators.python import RayPythonOperator

CONN_ID = "ray_run"
MANIFEST = """
apiVersion: ray.io/v1
kind: RayCluster
spec:
  headGroupSpec:
    rayStartParams: {num-cpus: "2"}
    template:
      spec:
        containers:
          - name: ray-head
            image: rayproject/ray:2.60.0
"""


@ray_task(ray_conn_id=CONN_ID)
def measure(gate):
    import os
    import time

    import pandas as pd

    while not os.path.exists(gate):
        time.sleep(0.1)
    return pd.DataFrame({"dose": range(1000)})


@ray_task(ray_conn_id=CONN_ID, checkpoint=True)
def double(frame):
    return frame.assign(twice=2 * frame["dose"])


@ray_task(ray_conn_id=CONN_ID, result="value")
def total(frame, succeeds):
    import os

    import ray

    if not os.path.exists(succeeds):
        raise ValueError("not this time")
    return [int(frame["twice"].sum()), ray.util.get_node_ip_address()]


def rows(frame):
    return len(frame)


def cluster(**more):
    """Return the tasks that make the cluster and take it away."""
    made = CreateRayClusterOperator(
        task_id="make_cluster", manifest=MANIFEST, ray_conn_id=CONN_ID, poll_interval=0.5, **more
    ).as_setup()
    deleted = DeleteRayClusterOperator(task_id="delete_cluster", ray_conn_id=CONN_ID, poll_interval=0.5, **more)
    return deleted.as_teardown(setups=made)


DEFAULTS = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc)}

with DAG("cluster_of_run", **DEFAULTS), cluster(deferrable=True):
    total(double(measure("{{ dag_run.conf['gate'] }}")), "{{ dag_run.conf['succeeds'] }}")

with DAG("reads_an_earlier_run", **DEFAULTS), cluster():
    RayPythonOperator(
        task_id="rows",
        python_callable=rows,
        op_args=["{{ dag_run.conf['uri'] }}"],
        ray_conn_id=CONN_ID,
        result="value",
    )
