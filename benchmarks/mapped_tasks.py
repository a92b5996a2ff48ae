"""Hundreds of short mapped tasks under a real scheduler, next to as many plain ones, and what they cost the head."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.measure import Result, at_most
from benchmarks.servers import OWNER_PROCESS, ray_head
from benchmarks.whole_dag import DAGS
from tools.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.ray_cluster import RayHead

ON_RAY, PLAIN = "mapped_on_ray", "mapped_plain"
TIMES, HEAD_MEGABYTES = 1.5, 200
AT_ONCE, HEAD_CPUS = 16, 2
RUN_SECONDS = 900.0
SAMPLE_SECONDS = 1.0
# How the processes are called in which Ray runs tasks, as many as run at once: from their start, and later on.
WORKERS = ("default_worker.py", "ray::")


def run(number: int) -> Iterator[Result]:
    """Yield the results.

    :param number: of the instances of a mapped task.
    """
    with (
        ray_head(num_cpus=HEAD_CPUS, with_gateway=True) as head,
        tempfile.TemporaryDirectory(prefix="airflow-") as home,
    ):
        environment = {"AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri, "AIRFLOW__CORE__PARALLELISM": str(AT_ONCE)}
        with StandaloneAirflow(Path(home), DAGS, environment) as airflow:
            _seconds(airflow, ON_RAY, 1)
            plain = _seconds(airflow, PLAIN, number)
            before = _sizes(head)
            with _sampled(head) as samples:
                ours = _seconds(airflow, ON_RAY, number)
    title = f"mapped tasks: {number} of one second, {AT_ONCE} at a time"
    yield Result(f"{title}, against plain ones", ours, "s", plain, target=at_most(TIMES))
    processes = max(each.processes - before.processes for each in samples)
    yield Result(f"{title}, processes more on the head", processes, "processes", target=at_most(0))
    megabytes = max(each.bytes - before.bytes for each in samples) / 1e6
    yield Result(f"{title}, memory more in them", megabytes, "MB", target=at_most(HEAD_MEGABYTES))
    yield Result(f"{title}, workers of Ray", max(each.workers for each in samples), "processes")
    yield Result(f"{title}, memory of these", max(each.workers_bytes for each in samples) / 1e6, "MB")


def _seconds(airflow: StandaloneAirflow, dag_id: str, number: int) -> float:
    run_id = airflow.trigger(dag_id, {"number": number})
    started = time.monotonic()
    if airflow.wait(dag_id, run_id, RUN_SECONDS) != "success":
        raise RuntimeError(f"The run of {dag_id} has failed")
    return time.monotonic() - started


class _Sizes(NamedTuple):
    """What the head takes: Ray's workers, and all else."""

    processes: int
    bytes: int
    workers: int
    workers_bytes: int


@contextmanager
def _sampled(head: RayHead) -> Iterator[list[_Sizes]]:
    """Yield what is looked up of a head now and then, meanwhile and once at the end."""
    samples: list[_Sizes] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(_sizes(head))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples.append(_sizes(head))


def _sizes(head: RayHead) -> _Sizes:
    workers: list[int] = []
    others: list[int] = []
    for process in head.processes(""):
        # It may have ended just now.
        with suppress(psutil.NoSuchProcess):
            name = " ".join(process.cmdline())
            memory = process.memory_info()
            is_worker = any(each in name for each in WORKERS) and OWNER_PROCESS not in name
            (workers if is_worker else others).append(memory.rss - memory.shared)
    return _Sizes(len(others), sum(others), len(workers), sum(workers))
