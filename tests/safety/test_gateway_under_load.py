"""A gateway that dies, is flooded, or whose peers stand still."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import flight

from airflow_ray.cluster.gateway.flight import batch_of, schema
from airflow_ray.cluster.gateway.guard import MAX_GROWTH_BYTES
from airflow_ray.cluster.gateway.pipes import MAX_PIPES
from airflow_ray.cluster.messages import packed
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import await_file, new_uri
from tests.ray_head import RayHead
from tests.safety.gateways import OWNER, Gateway, options_of

LIMITED = """
import os, sys, time
from airflow_ray.cluster.gateway.guard import limit_growth

limit_growth(lambda: os._exit(3), at_most=50_000_000)
held = [b"x" * 20_000_000]
time.sleep(0.3)
print("held", flush=True)
while True:
    held.append(b"x" * int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def own_head() -> Iterator[tuple[RayHead, str]]:
    """A head whose gateway may die."""
    own = RayHead()
    yield own, own.gateway_uri
    own.stop()


@pytest.fixture
def gateway(own_head: tuple[RayHead, str], monkeypatch: pytest.MonkeyPatch) -> Gateway:
    own, uri = own_head
    monkeypatch.setenv("AIRFLOW_CONN_RAY_OWN", uri)
    return Gateway(uri, Path(own.temp_dir, "gateway"))


def large(size: int = 200_000_000) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.full(size, 7, np.uint8)


def test_process_that_grows_beyond_its_limit_ends() -> None:
    grows = subprocess.run([sys.executable, "-c", LIMITED, "1_000_000"], capture_output=True, text=True, check=False)
    assert (grows.returncode, grows.stdout) == (3, "held\n")


@pytest.mark.slow
def test_work_objects_and_transfers_survive_the_death_of_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"

    def work() -> str:
        begun.write_text("yes")
        while not may_end.exists():
            time.sleep(0.05)
        return "done"

    kept, awaited, sent = (new_uri("ray_own") for _ in range(3))

    def wait() -> str:
        with RayHook("ray_own").connect() as hook:
            hook.wait(awaited)
            return hook.get(awaited)

    def upload() -> None:
        with RayHook("ray_own").connect() as hook:
            hook.put(large(), uri=sent)

    def download() -> int:
        with RayHook("ray_own").connect() as hook:
            return int(hook.get(kept).sum())

    with RayHook("ray_own").connect() as hook:
        hook.put(large(), uri=kept)
        hook.submit(work, uri=awaited)
        await_file(begun)
    before = gateway.pid
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(each) for each in (wait, upload, download)]
        time.sleep(0.3)
        os.kill(before, signal.SIGKILL)
        may_end.touch()
        waited, _, downloaded = (call.result(300) for call in calls)
    assert gateway.pid != before
    assert (waited, downloaded) == ("done", 7 * 200_000_000)
    with RayHook("ray_own").connect() as hook:
        assert (hook.get(sent) == large()).all()


@pytest.mark.slow
def test_flood_without_a_token_is_bounded(gateway: Gateway) -> None:
    uri = new_uri("ray_own")
    with RayHook("ray_own").connect() as hook:
        hook.put("kept", uri=uri)
    body, before, sizes = pa.py_buffer(bytes(300_000_000)), gateway.resident_bytes, []

    def send() -> None:
        with gateway.client() as client, suppress(pa.ArrowException, OSError):
            list(client.do_action(flight.Action("greet", body), options_of()))

    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(send) for _ in range(6)]
        while not all(call.done() for call in calls):
            with suppress(OSError):
                sizes.append(gateway.resident_bytes - before)
            time.sleep(0.02)
    assert max(sizes) < 1.5 * MAX_GROWTH_BYTES
    with RayHook("ray_own").connect() as hook:
        assert hook.get(uri) == "kept"


@pytest.mark.slow
def test_a_thousand_connections_that_say_nothing_keep_nobody_out(gateway: Gateway) -> None:
    before = gateway.resident_bytes
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        gateway.requires_to_go_on()
        with RayHook("ray_own").connect() as hook:
            hook.list_objects()
        assert gateway.resident_bytes - before < 100_000_000


@pytest.mark.slow
def test_more_values_at_once_than_there_are_turns_all_arrive(gateway: Gateway) -> None:
    uris = [new_uri("ray_own") for _ in range(2 * MAX_PIPES)]

    def put(uri: ObjectURI) -> None:
        with RayHook("ray_own").connect() as hook:
            hook.put(large(1_000_000), uri=uri)

    with ThreadPoolExecutor(len(uris)) as threads:
        list(threads.map(put, uris))
    with RayHook("ray_own").connect() as hook:
        assert {hook.status(uri) for uri in uris} == {"SUCCEEDED"}


@pytest.mark.slow
def test_clients_that_stand_still_keep_no_other_from_moving_values(gateway: Gateway) -> None:
    """One fewer than all turns are taken: half by downloads that nobody reads, half by uploads that stop."""
    kept = new_uri("ray_own")
    with RayHook("ray_own").connect() as hook:
        hook.put(large(), uri=kept)
    before = gateway.resident_bytes
    with ExitStack() as stack:
        held = []
        for number in range(MAX_PIPES - 1):
            client, name = stack.enter_context(gateway.client()), uuid.uuid4().hex
            if number % 2:
                ticket = {**OWNER, "name": name, "record_id": kept.record_id, "key": kept.key}
                held.append(client.do_get(flight.Ticket(packed(ticket)), gateway.options()))
            else:
                command = packed({**OWNER, "name": name, "sizes": [100, 100_000_000]})
                writer, _ = client.do_put(flight.FlightDescriptor.for_command(command), schema(), gateway.options())
                writer.write_batch(batch_of(bytes(8_000_000)))
                held.append(writer)
        with RayHook("ray_own").connect() as hook:
            other = new_uri("ray_own")
            hook.put(large(20_000_000), uri=other)
            assert (hook.get(other) == large(20_000_000)).all()
        assert gateway.resident_bytes - before < MAX_PIPES * 64_000_000
        for each in held:
            with suppress(pa.ArrowException, OSError):
                each.cancel() if hasattr(each, "cancel") else each.close()
