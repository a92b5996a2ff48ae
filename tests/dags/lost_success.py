"""DAGs whose task does its work, and whose first process does not live to tell Airflow."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_ray.operators.python import RayPythonOperator


def work(starts):
    with open(starts, "a") as file:
        file.write("line\n")
    return "made"


def die_the_first_time(context, result):
    import os
    import signal

    if context["ti"].try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def stay_the_first_time(context, result):
    """Go on when Airflow has given the task up."""
    import os
    import time
    from pathlib import Path

    files = context["params"]["files"]
    if context["ti"].try_number == 1:
        Path(files["stays"]).write_text(str(os.getpid()))
        while not Path(files["gate"]).exists():
            time.sleep(0.05)
        Path(files["leaves"]).touch()


def task_that(post_execute, **arguments):
    RayPythonOperator(
        task_id="work",
        python_callable=work,
        op_args=["{{ params.files.starts }}"],
        num_cpus=0,
        result="value",
        post_execute=post_execute,
        retries=1,
        retry_delay=timedelta(seconds=1),
        **arguments,
    )


@dag(schedule=None, params={"files": {}})
def dies_after_its_work():
    task_that(die_the_first_time)


@dag(schedule=None, params={"files": {}})
def dies_after_its_deferred_work():
    task_that(die_the_first_time, deferrable=True)


@dag(schedule=None, params={"files": {}})
def is_given_up_after_its_work():
    task_that(stay_the_first_time)


dies_after_its_work()
dies_after_its_deferred_work()
is_given_up_after_its_work()
