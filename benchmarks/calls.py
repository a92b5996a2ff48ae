"""Calls of the owner through the gateway, next to Ray Client's: how long one takes, and how many submits a second."""

from __future__ import annotations

import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import REPEATS, Result, at_least, at_most, noise, timed
from benchmarks.servers import CLIENT, GATEWAY, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

MILLISECONDS = 2.0
SUBMITS_PER_SECOND = 200
WARM_UP = 20
NO_RECORD = "none"
# Each with a connection of its own, as tasks have.
THREADS = 8


def run(calls: int, submits: int, repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results.

    :param calls: how many are timed over each connection.
    :param submits: how many are submitted at a time.
    """
    with ray_head(with_gateway=True):
        yield _warm_call(calls)
        for threads in (1, THREADS):
            yield from _submits(threads, submits, repeats)


def _warm_call(number: int) -> Result:
    milliseconds = {conn_id: _milliseconds_of_calls(conn_id, number) for conn_id in (CLIENT, GATEWAY)}
    by_client, ours = (statistics.median(milliseconds[conn_id]) for conn_id in (CLIENT, GATEWAY))
    title = f"calls: one of the owner, warm; over Ray Client {by_client:.2g} ms"
    return Result(title, ours, "ms", noise=noise(milliseconds[GATEWAY]), target=at_most(MILLISECONDS))


def _milliseconds_of_calls(conn_id: str, number: int) -> list[float]:
    with RayHook(conn_id).connect() as hook:
        call = timed(lambda: hook.client.link.call("describe", NO_RECORD))
        for _ in range(WARM_UP):
            call()
        return [1000 * call() for _ in range(number)]


def _submits(threads: int, number: int, repeats: int) -> Iterator[Result]:
    dag_id = uuid.uuid4().hex
    rates: dict[str, list[float]] = {"submits": [], "submits until all have ended": []}
    with ThreadPoolExecutor(threads) as pool:
        _submit_all(pool, threads, min(WARM_UP, number // threads), dag_id)
        for _ in range(repeats):
            submitted, ended = _submit_all(pool, threads, number // threads, dag_id)
            rates["submits"].append(number / submitted)
            rates["submits until all have ended"].append(number / ended)
    with RayHook(GATEWAY).connect() as hook:
        hook.release(dag_id=dag_id)
    target = at_least(SUBMITS_PER_SECOND) if threads > 1 else None
    for what, measured in rates.items():
        title = f"calls: {what}, {threads} at a time"
        yield Result(title, statistics.median(measured), "1/s", noise=noise(measured), target=target)


def _submit_all(pool: ThreadPoolExecutor, threads: int, each: int, dag_id: str) -> tuple[float, float]:
    """Return the seconds until the last is submitted, and until the last has ended."""
    started = time.perf_counter()
    uris = [uri for part in pool.map(lambda _: _submit(each, dag_id), range(threads)) for uri in part]
    submitted = time.perf_counter() - started
    with RayHook(GATEWAY).connect() as hook:
        for uri in uris:
            hook.wait(uri)
    return submitted, time.perf_counter() - started


def _submit(number: int, dag_id: str) -> list[ObjectURI]:
    uris = [ObjectURI(GATEWAY, dag_id, "run", uuid.uuid4().hex) for _ in range(number)]
    with RayHook(GATEWAY).connect() as hook:
        for uri in uris:
            hook.submit(_nothing, uri=uri)
    return uris


def _nothing() -> None:
    """Do nothing."""
