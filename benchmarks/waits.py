"""Deferred waits in one process, as a triggerer runs them: connections, CPU, memory, and how late an end is told."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import psutil

from airflow_ray._compat import BaseHook
from airflow_ray.client.watcher import stop_all
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.triggers import RayObjectTrigger
from benchmarks.measure import Result, at_most
from benchmarks.servers import GATEWAY, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.ray_cluster import RayHead

POLL_SECONDS = 1.0
SETTLE_SECONDS = 2.0
CPU_PERCENT, MEGABYTES = 5, 150

# Makes the objects one after another, in a process of its own.
MAKE = """
import sys
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

conn_id, run_id, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
with RayHook(conn_id).connect() as hook:
    for each in range(number):
        hook.put(1, uri=ObjectURI(conn_id, "benchmark", run_id, f"task{each}"))
"""


def run(waits: tuple[int, ...], idle_seconds: float) -> Iterator[Result]:
    """Yield the results for each number of waits.

    :param waits: how many triggers wait at once.
    :param idle_seconds: how long nothing ends, in which CPU and memory are measured.
    """
    with ray_head(with_gateway=True) as head:
        for number in waits:
            run_id = uuid.uuid4().hex
            uris = [ObjectURI(GATEWAY, "benchmark", run_id, f"task{each}") for each in range(number)]
            # The owner starts with the first connection.
            RayHook(GATEWAY).status(uris[0])
            try:
                yield from asyncio.run(_measured(head, uris, idle_seconds))
            finally:
                stop_all()


async def _measured(head: RayHead, uris: list[ObjectURI], idle_seconds: float) -> list[Result]:
    process, port = psutil.Process(), BaseHook.get_connection(GATEWAY).port
    before = process.memory_info().rss
    told: dict[ObjectURI, float] = {}
    waits = [asyncio.create_task(_wait(uri, told)) for uri in uris]
    await asyncio.sleep(SETTLE_SECONDS)
    cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(idle_seconds)
    share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
    rss = process.memory_info().rss
    connections = sum(each.raddr[1:] == (port,) for each in process.net_connections("tcp"))
    command = [sys.executable, "-c", MAKE, GATEWAY, uris[0].run_id, str(len(uris))]
    maker = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, f"AIRFLOW_CONN_{GATEWAY.upper()}": head.driver_uri}
    )
    await asyncio.gather(*waits)
    await maker.wait()
    with RayHook(GATEWAY).connect() as hook:
        delays = [told[uri] - hook.describe(uri)["finished_at"] for uri in uris]
    number = f"{len(uris)} waits"
    return [
        Result(f"scale: connections to the gateway of {number}", connections, "connections", target=at_most(1)),
        Result(f"scale: CPU of one core for {number}", 100 * share, "%", target=at_most(CPU_PERCENT)),
        Result(f"scale: memory of a process with {number}", rss / 1e6, "MB", target=at_most(MEGABYTES)),
        Result(f"scale: memory that {number} add", (rss - before) / 1e6, "MB"),
        Result(f"scale: end to event of {number}, median", 1000 * statistics.median(delays), "ms"),
        Result(
            f"scale: end to event of {number}, 99th percentile",
            1000 * _percentile(delays, 99),
            "ms",
            target=at_most(2000),
        ),
    ]


async def _wait(uri: ObjectURI, told: dict[ObjectURI, float]) -> None:
    # Each event is held for some seconds after the deferral, which is not what is measured.
    resume = {"settle_seconds": 0.0}
    async for event in RayObjectTrigger([str(uri)], poll_interval=POLL_SECONDS, resume=resume).run():
        told[uri] = time.time()
        if event.payload["status"] != "ended":
            raise RuntimeError(event.payload)


def _percentile(values: list[Any], percent: int) -> float:
    return float(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])
