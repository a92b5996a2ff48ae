"""A mapped task whose instances sleep for a second: on Ray, and as plain tasks of Airflow."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task

from airflow_ray.decorators import ray_task

AT_ONCE = 16
NUM_CPUS = 0.05


def sleep(number: int) -> int:
    """Sleep for a second."""
    import time

    time.sleep(1)
    return number


@task
def numbers() -> list[int]:
    """Return as many numbers as the run is told to."""
    run: Any = get_current_context()["dag_run"]
    return list(range(run.conf["number"]))


@dag(schedule=None, max_active_tasks=AT_ONCE)
def mapped_on_ray() -> None:
    """Let Ray sleep."""
    ray_task(num_cpus=NUM_CPUS)(sleep).expand(number=numbers())


@dag(schedule=None, max_active_tasks=AT_ONCE)
def mapped_plain() -> None:
    """Let Airflow's own processes sleep."""
    task(sleep).expand(number=numbers())


mapped_on_ray()
mapped_plain()
