"""A DAG whose file changes between two of its tasks; its id is the name of the file."""

from __future__ import annotations

import time
from pathlib import Path

from airflow.sdk import dag, task

from airflow_ray.decorators import ray_task

EDITION = "first"


def edition():
    return EDITION


@dag(Path(__file__).stem, schedule=None, params={"gate": ""}, doc_md=EDITION)
def changing():
    @ray_task(num_cpus=0)
    def make():
        return edition()

    @task
    def wait(params):
        while not Path(params["gate"]).exists():
            time.sleep(0.2)

    @ray_task(num_cpus=0, result="value")
    def take(made):
        return [made, edition()]

    made = make()
    made >> wait() >> take(made)


changing()
