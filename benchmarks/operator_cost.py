"""What the operator itself costs: an empty function as an Airflow task has it, next to a bare script."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.measure import REPEATS, Result, at_most, noise
from benchmarks.servers import DRIVER, GATEWAY, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "benchmark_local"
TASKS = 10
GATEWAY_TIMES = 0.2
SECONDS = 0.3
LOCAL_SECONDS = 0.45

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

# Airflow has imported itself before a task executes. What else the operator imports counts, but for Ray where the
# script is told to import it before.
OPERATOR = """
import json, sys, time
import airflow.sdk.execution_time.task_runner
from airflow.sdk import BaseHook, BaseOperator
from benchmarks.task_instance import context_of

def nothing():
    pass

if sys.argv[2:] == ["ray"]:
    import ray
started = time.perf_counter()
from airflow_ray.operators.python import RayPythonOperator
operator = RayPythonOperator(task_id="nothing", python_callable=nothing, ray_conn_id=sys.argv[1])
imported = time.perf_counter()
operator.execute(context_of("nothing"))
ended = time.perf_counter()
print(json.dumps({"import": imported - started, "run": ended - imported, "ray": "ray" in sys.modules}))
"""

# Tasks one after another, each with a connection of its own; all tell the pid of the Ray worker.
PID = """
import json, os, sys
from airflow_ray.operators.python import RayPythonOperator
from benchmarks.task_instance import context_of

def pid():
    import os
    return os.getpid()

pids = set()
for _ in range(int(sys.argv[2])):
    operator = RayPythonOperator(task_id="pid", python_callable=pid, ray_conn_id=sys.argv[1], result="value")
    pids.add(operator.execute(context_of("pid")))
print(json.dumps({"workers": len(pids)}))
"""


def run(repeats: int = REPEATS, tasks: int = TASKS, with_others: bool = True) -> Iterator[Result]:
    """Yield the results for each mode of the connection, and for tasks one after another.

    :param tasks: how many of them.
    :param with_others: also measure the modes ``driver`` and ``local``.
    """
    with ray_head(with_gateway=True) as head:
        # These start the owner and its worker for all that follow.
        workers = _told(PID, GATEWAY, str(tasks))["workers"]
        yield Result(f"operator: Ray workers of {tasks} tasks in turn", workers, "workers", target=at_most(1))
        yield from _through_gateway(*_in_turns([BARE, head.client_uri], [OPERATOR, GATEWAY], repeats))
        if with_others:
            address = f"127.0.0.1:{head.ports[0]}"
            yield from _direct("driver", *_in_turns([BARE, address], [OPERATOR, DRIVER, "ray"], repeats))
    if with_others:
        yield _local(repeats)


Parts = list[dict[str, float]]


def _through_gateway(bare: Parts, operator: Parts) -> Iterator[Result]:
    whole_bare, whole_operator = ([each["import"] + each["run"] for each in parts] for parts in (bare, operator))
    yield Result(
        "operator: execute() through the gateway with all imports, against a bare script over Ray Client",
        statistics.median(whole_operator),
        "s",
        statistics.median(whole_bare),
        noise(whole_operator),
        at_most(GATEWAY_TIMES),
    )
    imports = sum(each["ray"] for each in operator)
    yield Result("operator: tasks through the gateway that import ray", imports, "tasks", target=at_most(0))


def _direct(mode: str, bare: Parts, operator: Parts) -> Iterator[Result]:
    alone = [each["run"] for each in operator]
    name = f"operator: execute() in {mode} mode"
    median, baseline = (statistics.median(each["run"] for each in parts) for parts in (operator, bare))
    yield Result(f"{name} against a bare script", median, "s", baseline, noise(alone))
    yield Result(f"{name}, without the import of ray", median, "s", noise=noise(alone), target=at_most(SECONDS))
    yield Result(f"{name}, more than a bare script", median - baseline, "s", target=at_most(SECONDS))


def _local(repeats: int) -> Result:
    """Measure the head that the mode starts by itself, once it runs."""
    # Short: the paths of the head's sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="local-") as folder:
        os.environ["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"] = folder
        os.environ[f"AIRFLOW_CONN_{LOCAL.upper()}"] = '{"conn_type": "ray", "extra": {"mode": "local"}}'
        try:
            _told(PID, LOCAL, "1")
            told = [_told(OPERATOR, LOCAL) for _ in range(repeats)]
        finally:
            command = [sys.executable, "-m", "airflow_ray.hooks.local_head", "stop"]
            subprocess.run(command, capture_output=True, check=False)
    seconds = [each["import"] + each["run"] for each in told]
    title = "operator: execute() in local mode with all imports"
    return Result(title, statistics.median(seconds), "s", noise=noise(seconds), target=at_most(LOCAL_SECONDS))


def _in_turns(bare: list[str], operator: list[str], repeats: int) -> tuple[Parts, Parts]:
    """Run both scripts in turns, and return what they told."""
    told: tuple[Parts, Parts] = [], []
    for _ in range(repeats):
        told[0].append(_told(*bare))
        told[1].append(_told(*operator))
    return told


def _told(script: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", script, *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    figures: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return figures
