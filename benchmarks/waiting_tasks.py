"""Tasks that wait for their work: what they cost the head, and what one costs in Airflow's process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import Result, at_most, noise
from benchmarks.servers import CLIENT, GATEWAY, OWNER_PROCESS, gateway_process, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.ray_cluster import RayHead

HEAD_MEGABYTES, TASK_MEGABYTES = 20, 70
WARM_UP_TASKS = 20
SETTLE_SECONDS = 5.0
START_SECONDS = 60.0
# The head has one for each Ray Client.
CLIENT_SERVER = "specific-server"

# A process as an Airflow task has it: what it takes when Airflow has imported itself, and while the operator waits.
TASK = """
import sys, threading, time
import psutil
import airflow.sdk.execution_time.task_runner
from airflow.sdk import BaseHook, BaseOperator
from benchmarks.task_instance import context_of

def rss():
    return psutil.Process().memory_info().rss

def tell():
    time.sleep(2)
    print(rss() - empty, flush=True)

def wait():
    import time
    time.sleep(3)

empty = rss()
from airflow_ray.operators.python import RayPythonOperator
operator = RayPythonOperator(task_id="wait", python_callable=wait, ray_conn_id=sys.argv[1])
threading.Thread(target=tell).start()
operator.execute(context_of("wait"))
"""


def run(tasks: int, repeats: int, settle_seconds: float = SETTLE_SECONDS) -> Iterator[Result]:
    """Yield the results.

    :param tasks: how many wait at once.
    :param settle_seconds: how long they wait before memory is measured.
    """
    with ray_head(num_cpus=1, with_gateway=True) as head:
        yield from _on_head(head, tasks, settle_seconds)
        own = [_megabytes_of_task(GATEWAY) for _ in range(repeats)]
        title = "waiting tasks: RSS of one above an empty task"
        yield Result(title, statistics.median(own), "MB", noise=noise(own), target=at_most(TASK_MEGABYTES))


def _on_head(head: RayHead, tasks: int, settle_seconds: float) -> Iterator[Result]:
    (owner,) = head.processes(OWNER_PROCESS)
    processes = {"gateway": gateway_process(head), "owner": owner}
    # What is imported and allocated once.
    with _waiting(min(WARM_UP_TASKS, tasks)):
        pass
    # What a head has once taken, it keeps for the next.
    for what in (f"waiting tasks: {tasks} at once", f"waiting tasks: {tasks} at once, again"):
        before = {name: each.memory_info().rss for name, each in processes.items()}
        pids = {each.pid for each in head.processes("")}
        with _waiting(tasks):
            time.sleep(settle_seconds)
            added = [each for each in head.processes("") if each.pid not in pids]
            grown = {name: (each.memory_info().rss - before[name]) / 1e6 for name, each in processes.items()}
        for name, megabytes in grown.items():
            yield Result(f"{what}, memory more in the {name}", megabytes, "MB")
        yield Result(f"{what}, processes more on the head", len(added), "processes", target=at_most(0))
        yield Result(f"{what}, memory more on the head", sum(grown.values()), "MB", target=at_most(HEAD_MEGABYTES))
    with RayHook(CLIENT).connect():
        servers = [each.memory_info().rss / 1e6 for each in head.processes(CLIENT_SERVER)]
        yield Result("waiting tasks: memory of the process that one Ray Client takes", sum(servers), "MB")


@contextmanager
def _waiting(tasks: int) -> Iterator[None]:
    """Submit so many, and let a thread with a connection of its own wait for each."""
    connected = threading.Barrier(tasks + 1, timeout=START_SECONDS)

    def wait(uri: ObjectURI) -> None:
        with RayHook(GATEWAY).connect() as hook:
            connected.wait()
            hook.wait(uri)

    run_id = uuid.uuid4().hex
    uris = [ObjectURI(GATEWAY, "benchmark", run_id, f"task{each}") for each in range(tasks)]
    threads = [threading.Thread(target=wait, args=(uri,)) for uri in uris]
    with tempfile.TemporaryDirectory() as folder, RayHook(GATEWAY).connect() as hook:
        end = Path(folder, "end")
        # It takes the only CPU until it is told to end.
        hook.submit(_until, str(end), uri=ObjectURI(GATEWAY, "benchmark", run_id, "until"))
        for uri, thread in zip(uris, threads, strict=True):
            hook.submit(_nothing, uri=uri)
            thread.start()
        connected.wait()
        yield
        end.touch()
        for thread in threads:
            thread.join()
        hook.release(dag_id="benchmark", run_id=run_id)


def _megabytes_of_task(conn_id: str) -> float:
    command = [sys.executable, "-c", TASK, conn_id]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return int(finished.stdout.splitlines()[-1]) / 1e6


def _until(end: str) -> None:
    """Return when there is such a file."""
    import time
    from pathlib import Path

    while not Path(end).exists():
        time.sleep(0.05)


def _nothing() -> None:
    """Do nothing."""
