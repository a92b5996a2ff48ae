"""A script that is there already, run as a job of Ray, and what it leaves handed to a Ray task.

It needs a cluster with a dashboard, which the embedded head of mode local has not: name one in the connection
``ray_default``. The folder with the script is uploaded.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from airflow_ray.decorators import ray_task
from airflow_ray.operators.job import RaySubmitJobOperator


@ray_task(result="value")
def mean_waits(frame):
    return frame.groupby("part")["wait"].mean().tolist()


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={"rows": Param(1000, type="integer", minimum=1)},
    tags=["ray", "example"],
    doc_md=__doc__,
)
def ray_job():
    simulated = RaySubmitJobOperator(
        task_id="simulate",
        entrypoint="python simulate.py --rows {{ params.rows }}",
        runtime_env={"working_dir": "ray_job_scripts"},
        result="ref",
    )
    mean_waits(simulated.output)


ray_job()
