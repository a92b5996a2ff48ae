"""Deletes the Ray clusters whose DAG run has ended without taking them away, for example because Airflow was killed.

It needs the extra ``kuberay`` and the connection ``kubernetes_default``. ``airflow ray clusters prune`` does the same.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import Param, dag, task


@task
def prune(params):
    from airflow_ray.hooks.kuberay import KubeRayHook

    hook = KubeRayHook("kubernetes_default", namespace=params["namespace"])
    return [cluster.name for cluster in hook.prune(older_than=timedelta(hours=params["hours"]))]


@dag(
    schedule="@hourly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    params={
        "namespace": Param(None, type=["null", "string"]),
        "hours": Param(48, type="number", exclusiveMinimum=0),
    },
    tags=["ray", "example"],
    doc_md=__doc__,
)
def kuberay_prune():
    prune()


kuberay_prune()
