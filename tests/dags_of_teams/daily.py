"""A DAG for each day, in which work of many days is on the cluster at once."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import dag

from airflow_ray.decorators import ray_task


@dag(schedule="@daily", start_date=datetime(2020, 1, 1), end_date=datetime(2020, 3, 1), catchup=False)
def daily():
    @ray_task(num_cpus=0)
    def make(ds=None):
        return {"day": ds}

    @ray_task(num_cpus=0, result="value")
    def tell(made):
        return made["day"]

    tell(make())


daily()
