"""Tables of each kind from a plain task to Ray and back to a plain task, each a process of its own."""

from __future__ import annotations

from airflow.sdk import dag, task
from helpers.frame_kinds import MAKERS, look_at

from airflow_ray.decorators import ray_task

OF_A_CLUSTER = ("modin", "dataset")
# A plain task that is no process of the cluster cannot read it.
FOR_RAY_TASKS = ("matrix",)


@task
def extract():
    return {kind: make() for kind, make in MAKERS.items() if kind not in OF_A_CLUSTER + FOR_RAY_TASKS}


@ray_task(multiple_outputs=True)
def transform(tables):
    return {**tables, **{kind: MAKERS[kind]() for kind in OF_A_CLUSTER}}


@task
def load(tables):
    return {kind: look_at(table) for kind, table in tables.items()}


@dag(schedule=None)
def handed_over():
    load(transform(extract()))


handed_over()
