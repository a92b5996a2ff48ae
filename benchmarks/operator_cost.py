"""What the operator itself costs: an empty function as an Airflow task has it, next to a bare script."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from airflow_ray.client.connection import local_head
from benchmarks.measure import REPEATS, Result, at_most, noise
from benchmarks.servers import CLIENT, DRIVER, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "benchmark_local"
TASKS = 10
CLIENT_TIMES = 1.15
SECONDS = 0.3
START_SECONDS = 120.0

# Each script is a fresh process, as an Airflow task is, and tells the seconds of its parts.
BARE = """
import json, sys, time
started = time.perf_counter()
import ray
imported = time.perf_counter()

def nothing():
    pass

ray.init(sys.argv[1], log_to_driver=False)
ray.get(ray.remote(nothing).remote())
print(json.dumps({"import": imported - started, "run": time.perf_counter() - imported}))
"""

# Airflow has imported itself, and the DAG file the operator, before a task executes.
OPERATOR = """
import json, sys, time
from airflow_ray.operators.python import RayPythonOperator
from benchmarks.task_instance import TaskInstance

def nothing():
    pass

operator = RayPythonOperator(task_id="nothing", python_callable=nothing, ray_conn_id=sys.argv[1])
context = {"ti": TaskInstance("nothing")}
started = time.perf_counter()
import ray, airflow_ray.hooks.ray
imported = time.perf_counter()
operator.execute(context)
print(json.dumps({"import": imported - started, "run": time.perf_counter() - imported}))
"""

# Tasks one after another, each with a connection of its own; all tell the pid of the Ray worker.
PID = """
import json, os, sys
from airflow_ray.operators.python import RayPythonOperator
from benchmarks.task_instance import TaskInstance

def pid():
    import os
    return os.getpid()

pids = set()
for _ in range(int(sys.argv[2])):
    operator = RayPythonOperator(task_id="pid", python_callable=pid, ray_conn_id=sys.argv[1], result="value")
    pids.add(operator.execute({"ti": TaskInstance("pid")}))
print(json.dumps({"workers": len(pids)}))
"""


def run(repeats: int = REPEATS, tasks: int = TASKS, with_local: bool = True) -> Iterator[Result]:
    """Yield the results for each mode of the connection, and for tasks one after another.

    :param tasks: how many of them.
    :param with_local: also start the head of local mode.
    """
    with ray_head() as head:
        bare = {CLIENT: head.client_uri, DRIVER: f"127.0.0.1:{head.ports[0]}"}
        # These start the owner and its worker for all that follow.
        workers = _told(PID, DRIVER, str(tasks))["workers"]
        yield Result(f"operator: Ray workers of {tasks} tasks in turn", workers, "workers", target=at_most(1))
        seconds = _in_fresh_processes(bare, repeats)
        yield from _over_client(*seconds[CLIENT])
        yield from _direct("driver", *seconds[DRIVER])
    if with_local:
        yield from _local(repeats)


Parts = list[dict[str, float]]


def _over_client(bare: Parts, operator: Parts) -> Iterator[Result]:
    whole_bare, whole_operator = ([each["import"] + each["run"] for each in parts] for parts in (bare, operator))
    yield Result(
        "operator: execute() over Ray Client with the import of ray, against a bare script",
        statistics.median(whole_operator),
        "s",
        statistics.median(whole_bare),
        noise(whole_operator),
        at_most(CLIENT_TIMES),
    )


def _direct(mode: str, bare: Parts, operator: Parts) -> Iterator[Result]:
    alone = [each["run"] for each in operator]
    name = f"operator: execute() in {mode} mode"
    median, baseline = (statistics.median(each["run"] for each in parts) for parts in (operator, bare))
    yield Result(f"{name} against a bare script", median, "s", baseline, noise(alone))
    yield Result(f"{name}, without the import of ray", median, "s", noise=noise(alone), target=at_most(SECONDS))
    yield Result(f"{name}, more than a bare script", median - baseline, "s", target=at_most(SECONDS))


def _local(repeats: int) -> Iterator[Result]:
    """Measure the head that the mode starts by itself, once it runs."""
    # Short: the paths of the head's sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="local-") as folder:
        os.environ["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"] = folder
        os.environ[f"AIRFLOW_CONN_{LOCAL.upper()}"] = '{"conn_type": "ray", "extra": {"mode": "local"}}'
        try:
            address = local_head.ensure(START_SECONDS).address
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(local_head.token_path())}
            _told(PID, LOCAL, "1")
            yield from _direct("local", *_in_fresh_processes({LOCAL: address}, repeats)[LOCAL])
        finally:
            command = [sys.executable, "-m", "airflow_ray.hooks.local_head", "stop"]
            subprocess.run(command, capture_output=True, check=False)
            os.environ["RAY_AUTH_MODE"] = "disabled"
            del os.environ["RAY_AUTH_TOKEN_PATH"]


def _in_fresh_processes(addresses: dict[str, str], repeats: int) -> dict[str, tuple[Parts, Parts]]:
    """Run bare script and operator in turns, and return what they told by connection."""
    told: dict[str, tuple[Parts, Parts]] = {conn_id: ([], []) for conn_id in addresses}
    for _ in range(repeats):
        for conn_id, address in addresses.items():
            told[conn_id][0].append(_told(BARE, address))
            told[conn_id][1].append(_told(OPERATOR, conn_id))
    return told


def _told(script: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", script, *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    figures: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return figures
