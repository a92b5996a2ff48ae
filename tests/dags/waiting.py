"""DAGs whose work outlives the Airflow processes that wait for it."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_ray.decorators import ray_task
from airflow_ray.sensors.object import RayObjectSensor

RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=5)}


def until_told(files):
    """Note the start in one file and return when there is another one."""
    import os
    import time

    with open(files["starts"], "a") as starts:
        starts.write(f"{os.getpid()}\n")
    print("working", flush=True)
    while not os.path.exists(files["gate"]):
        time.sleep(0.05)
    return "done"


@dag(schedule=None, render_template_as_native_obj=True, params={"files": {}})
def worker_waits():
    ray_task(until_told, task_id="work", num_cpus=0, result="value", **RETRIES)("{{ params.files }}")


@dag(schedule=None, render_template_as_native_obj=True, params={"files": {}})
def triggerer_waits():
    ray_task(until_told, task_id="work", num_cpus=0, result="value", deferrable=True, **RETRIES)("{{ params.files }}")


@dag(schedule=None, render_template_as_native_obj=True, params={"files": {}}, dagrun_timeout=timedelta(seconds=60))
def worker_waits_too_long():
    ray_task(until_told, task_id="work", num_cpus=0, result="value")("{{ params.files }}")


# Work is followed in its task for ten seconds before that is deferred.
@dag(schedule=None, render_template_as_native_obj=True, params={"files": {}}, dagrun_timeout=timedelta(seconds=60))
def triggerer_waits_too_long():
    ray_task(until_told, task_id="work", num_cpus=0, result="value", deferrable=True)("{{ params.files }}")


def count(name, lines, seconds, gate):
    """Say half of the lines, and the others when somebody has opened the gate."""
    import os
    import time

    for number in range(lines):
        while number == lines // 2 and not os.path.exists(gate):
            time.sleep(0.05)
        print(f"{name} {number}", flush=True)
        time.sleep(seconds)
    return "done"


@dag(schedule=None, params={"gate": ""})
def quiet_beside_loud():
    options = {"num_cpus": 0, "result": "value", "deferrable": True, "poll_interval": 2}
    ray_task(count, task_id="quiet", **options)("quiet", 60, 0.3, "{{ params.gate }}")
    ray_task(count, task_id="loud", **options)("loud", 30_000, 0.001, "{{ params.gate }}")


@dag(schedule=None, params={"number": 1, "seconds": 1})
def many_end_soon():
    @task
    def numbers(params):
        return list(range(params["number"]))

    @ray_task(num_cpus=0, result="value", deferrable=True)
    def double(number, params):
        import time

        time.sleep(params["seconds"])
        return number * 2

    @task
    def total(numbers):
        return sum(numbers)

    total(double.expand(number=numbers()))


@dag(schedule=None, params={"uri": ""})
def waits_for_another():
    RayObjectSensor(task_id="wait", object_uri="{{ params.uri }}", deferrable=True, timeout=120)


@dag(schedule=None)
def makes_for_another():
    @ray_task
    def make():
        return [1, 2, 3]

    make()


worker_waits()
triggerer_waits()
worker_waits_too_long()
triggerer_waits_too_long()
quiet_beside_loud()
many_end_soon()
waits_for_another()
makes_for_another()
