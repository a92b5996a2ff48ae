"""A day of one owner and one gateway in fast motion, and what both hold as it passes: ``python -m benchmarks.day``.

Records are made, read, and then released or left to expire, over connections that end or are broken off. What is held
when all are gone again is measured after each round, and drawn: what grows with each round is a leak.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import struct
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.chart import saved
from benchmarks.plain_ray import run_by_ray
from benchmarks.servers import DRIVER, GATEWAY, OWNER_PROCESS, ROOT, gateway_process, ray_head
from tools.standalone import stop_by_sigterm_as_by_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

    from tools.ray_cluster import RayHead

FIGURES = Path(__file__).parent / "results" / "day.json"
CHART = ROOT / "docs" / "images" / "day.png"
EXPIRING = "benchmark_expiring"
TTL_SECONDS = 10
# As many clients at a time.
THREADS = 8
# Of 20 connections of a round, 4 are broken off in the middle of a request.
CONNECTIONS = 16
BROKEN_OFF = 4
# Ray keeps what is smaller in the memory of the owner, and the object store has no part in it.
BYTES = 200_000
GONE_SECONDS = 120.0
# Else Ray ends those beyond the number of CPUs after a second, and half of the time goes to starting others.
IDLE_WORKERS = 16


@dataclass(frozen=True)
class Held:
    """What is held when all records of a round are gone.

    :param records: made until then.
    :param connections: made until then.
    :param seconds: from the beginning.
    :param owner_bytes: memory that the owner's process has for itself.
    :param owner_handles: file descriptors it has open.
    :param store_bytes: of the object store that are taken.
    """

    records: int
    connections: int
    seconds: float
    owner_bytes: int
    owner_handles: int
    owner_threads: int
    gateway_bytes: int
    gateway_handles: int
    gateway_threads: int
    store_bytes: int


def run(rounds: int, records: int) -> Iterator[Held]:
    """Yield what is held after each round.

    :param records: how many each round makes.
    """
    os.environ["RAY_num_workers_soft_limit"] = str(IDLE_WORKERS)  # noqa: SIM112  # Ray spells it so
    with ray_head(object_store_bytes=2_000_000_000, with_gateway=True) as head:
        uri = os.environ[f"AIRFLOW_CONN_{GATEWAY.upper()}"]
        os.environ[f"AIRFLOW_CONN_{EXPIRING.upper()}"] = f"{uri}&object_ttl={TTL_SECONDS}"
        started = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            for number in range(1, rounds + 1):
                _one_round(pool, head, records)
                yield _held(head, number * records, number * (CONNECTIONS + BROKEN_OFF), time.monotonic() - started)


def _one_round(pool: ThreadPoolExecutor, head: RayHead, records: int) -> None:
    dag_id = uuid.uuid4().hex
    clients: list[Callable[[int, str], None]] = [_submitted_and_left, _put_and_released]
    ended = [pool.submit(client, records // CONNECTIONS, dag_id) for client in clients * (CONNECTIONS // len(clients))]
    for each in ended:
        each.result()
    for _ in range(BROKEN_OFF):
        _break_off(head)
    _until_gone(dag_id)


def _submitted_and_left(number: int, dag_id: str) -> None:
    """Have each made by work, read it, and leave it to expire."""
    with RayHook(EXPIRING).connect() as hook:
        for task in range(number):
            uri = ObjectURI(EXPIRING, dag_id, uuid.uuid4().hex, str(task))
            hook.submit(_made, task % 256, uri=uri)
            hook.wait(uri)
            _check(hook.get(uri), task)


def _put_and_released(number: int, dag_id: str) -> None:
    """Put each, read it, and release all."""
    run_id = uuid.uuid4().hex
    with RayHook(GATEWAY).connect() as hook:
        for task in range(number):
            uri = ObjectURI(GATEWAY, dag_id, run_id, str(task))
            hook.put(_made(task % 256), uri=uri)
            _check(hook.get(uri), task)
        hook.release(dag_id=dag_id, run_id=run_id)


def _made(byte: int) -> bytes:
    return bytes([byte]) * BYTES


def _check(value: bytes, task: int) -> None:
    if value != _made(task % 256):
        raise ValueError(f"Task {task} was given another value than it has made.")


def _break_off(head: RayHead) -> None:
    """Send a part of a request, and drop the connection without a farewell."""
    port, _ = head.gateway or (0, "")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _until_gone(dag_id: str) -> None:
    """Return when the owner has none of the records any more."""
    deadline = time.monotonic() + GONE_SECONDS
    with RayHook(GATEWAY).connect() as hook:
        while left := hook.list_objects(dag_id):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} records are still there after {GONE_SECONDS:.0f} s.")
            time.sleep(1)


def _held(head: RayHead, records: int, connections: int, seconds: float) -> Held:
    (owner,) = head.processes(OWNER_PROCESS)
    return Held(
        records,
        connections,
        seconds,
        *_of_process(owner),
        *_of_process(gateway_process(head)),
        store_bytes=_store_bytes(),
    )


def _of_process(process: psutil.Process) -> tuple[int, int, int]:
    return process.memory_full_info().uss, process.num_fds(), process.num_threads()


def _store_bytes() -> int:
    """Return what is left when Ray has freed all that it will, which it does, and tells, after the records are gone."""

    def taken() -> int:
        import ray

        name = "object_store_memory"
        return int(ray.cluster_resources()[name] - ray.available_resources().get(name, 0))

    deadline = time.monotonic() + GONE_SECONDS
    with RayHook(DRIVER).connect() as hook:
        while (left := run_by_ray(hook, taken)) and time.monotonic() < deadline:
            time.sleep(1)
    return left


def draw(held: list[dict[str, Any]], path: Path = CHART) -> None:
    """Draw the memory, the handles and threads, and the object store over the records."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, dict[str, tuple[str, float]]] = {
        "memory, MB": {"owner": ("owner_bytes", 1e6), "gateway": ("gateway_bytes", 1e6)},
        "handles": {"owner": ("owner_handles", 1), "gateway": ("gateway_handles", 1)},
        "threads": {"owner": ("owner_threads", 1), "gateway": ("gateway_threads", 1)},
        "object store, MB": {"in use": ("store_bytes", 1e6)},
    }
    thousands = [each["records"] / 1e3 for each in held]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (key, unit) in curves.items():
            axis.plot(thousands, [each[key] / unit for each in held], label=name)
        most = max(each[key] / unit for key, unit in curves.values() for each in held)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("thousand records made", fontsize=8)
        axis.set_ylim(0, 1.4 * most or 1)
        axis.legend(fontsize=8)
    figure.suptitle("What is held when all records of a round are gone")
    saved(figure, path)


def main(rounds: int, records: int) -> None:
    """Print what is held after each round, and keep it with its chart."""
    # The owner tells of each put and release, which would be most of what is printed.
    logging.getLogger("airflow_ray").setLevel(logging.WARNING)
    held = []
    for each in run(rounds, records):
        held.append(asdict(each))
        print(json.dumps(held[-1]), flush=True)
        # A run that breaks off leaves what it has measured.
        FIGURES.write_text(json.dumps(held, indent=1) + "\n")
        draw(held)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="by default 50")
    parser.add_argument("--records", type=int, default=2_000, help="that each round makes, by default 2,000")
    arguments = parser.parse_args()
    stop_by_sigterm_as_by_ctrl_c()
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        main(arguments.rounds, arguments.records)
