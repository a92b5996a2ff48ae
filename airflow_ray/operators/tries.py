"""Which try of a task this is, and what its tries have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_ray._compat import in_test_mode

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ray.cluster.protocol import TaskTry
    from airflow_ray.operators.arguments import RayArguments


def task_try(task: RayArguments, context: Context, own_name: str) -> TaskTry:
    """Return which try of ``task`` is running.

    :param own_name: a name that no other try has.
    """
    run = context["dag_run"]
    # Airflow raises max_tries when it clears a task: to what it was before, if the retries were lowered meanwhile.
    ti = context["ti"]
    common = json.dumps([run.start_date, run.run_after, ti.max_tries, task.retries], default=str)
    return {
        "number": ti.try_number,
        "run": common if task.durable and not in_test_mode() else own_name,
        "clearings": run.clear_number,
    }


def generation(context: Context) -> str:
    """Return what the tries of a task have in common until it is cleared: Airflow raises it then, and only then."""
    return str(context["ti"].max_tries)
