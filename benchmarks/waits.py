"""Deferred waits in one process, as a triggerer runs them: connections, CPU, memory, and how late an end is told."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import psutil

from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.watcher import stop_all
from airflow_ray.object_uri import ObjectURI
from airflow_ray.triggers import RayObjectTrigger
from benchmarks.measure import Result, at_most
from tools.ray_cluster import RayHead

if TYPE_CHECKING:
    from collections.abc import Iterator

CONN_ID = "benchmark_ray"
POLL_SECONDS = 10.0


def run(waits: int, idle_seconds: float, poll_seconds: float = POLL_SECONDS) -> Iterator[Result]:
    """Yield the results for one number of waits.

    :param waits: how many triggers wait at once.
    :param idle_seconds: how long nothing ends, in which CPU and memory are measured.
    :param poll_seconds: poll interval of the triggers.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    head = RayHead()
    os.environ["AIRFLOW_CONN_BENCHMARK_RAY"] = head.client_uri
    run_id = uuid.uuid4().hex
    uris = [ObjectURI(CONN_ID, "benchmark", run_id, f"task{number}") for number in range(waits)]
    try:
        # The owner starts with the first connection.
        RayHook(CONN_ID).status(uris[0])
        yield from asyncio.run(_measured(head, uris, idle_seconds, poll_seconds))
    finally:
        stop_all()
        head.stop()


async def _measured(head: RayHead, uris: list[ObjectURI], idle_seconds: float, poll_seconds: float) -> list[Result]:
    process = psutil.Process()
    before = process.memory_info().rss
    told: dict[ObjectURI, float] = {}
    waits = [asyncio.create_task(_wait(uri, told, poll_seconds)) for uri in uris]
    await asyncio.sleep(2 * poll_seconds)
    cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(idle_seconds)
    share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
    rss = process.memory_info().rss
    connections = len(head.processes("specific-server"))
    makers = threading.Thread(target=_make, args=(uris,))
    makers.start()
    await asyncio.gather(*waits)
    makers.join()
    with RayHook(CONN_ID).connect() as hook:
        delays = [told[uri] - hook.describe(uri)["finished_at"] for uri in uris]
    number = f"{len(uris)} waits"
    return [
        Result(f"{number}: connections to Ray", connections, "connections", target=at_most(1)),
        Result(f"{number}: CPU of one core", 100 * share, "%", target=at_most(10)),
        Result(f"{number}: memory over none", (rss - before) / 1e6, "MB", target=at_most(300)),
        Result(f"{number}: end to event, median", 1000 * statistics.median(delays), "ms"),
        Result(f"{number}: end to event, 99th percentile", 1000 * _percentile(delays, 99), "ms", target=at_most(2000)),
    ]


async def _wait(uri: ObjectURI, told: dict[ObjectURI, float], poll_seconds: float) -> None:
    async for event in RayObjectTrigger([str(uri)], poll_interval=poll_seconds).run():
        told[uri] = time.time()
        if event.payload["status"] != "ended":
            raise RuntimeError(event.payload)


def _make(uris: list[ObjectURI]) -> None:
    """Make the objects one after another, from a connection of its own."""
    with RayHook(CONN_ID).connect() as hook:
        for uri in uris:
            hook.put(1, uri=uri)


def _percentile(values: list[Any], percent: int) -> float:
    return float(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])
