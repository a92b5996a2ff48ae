"""Large values on their way over Ray Client, and what can go wrong there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from airflow_ray.client.transfer import pieces as hook_transfer
from airflow_ray.client.transfer import values
from airflow_ray.client.transfer.pieces import LARGE_UPLOAD_BYTES, Download, Upload
from airflow_ray.cluster.owner.transfers import Transfers
from airflow_ray.cluster.values import pieces
from airflow_ray.cluster.values.pieces import Arriving, Departing, compressed, original
from airflow_ray.exceptions import RayObjectLostError, RayPicklingError, RayWorkerCrashedError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.proxy import FaultyProxy
from tests.ray_head import RayHead

BATCHES = 4
FLOATS = np.random.default_rng(0).random(BATCHES * pieces.BATCH_BYTES // 8)


@pytest.fixture(autouse=True)
def values_are_large(monkeypatch):
    """Let all values of these tests come in pieces that go so."""
    monkeypatch.setattr(values, "LARGE_DOWNLOAD_BYTES", hook_transfer.LARGE_UPLOAD_BYTES)


def rows(count):
    return pd.DataFrame({"number": np.arange(count * 1.0), "text": [f"row {i}" for i in range(count)]})


VALUES = {
    "array": FLOATS,
    "not contiguous": FLOATS.reshape(-1, 8)[:, ::2],
    "in Fortran order": np.asfortranarray(FLOATS.reshape(-1, 8)),
    "frame": pd.DataFrame(FLOATS.reshape(-1, 8)),
    "frame with text": rows(1_000_000),
    "bytes": b"x" * (LARGE_UPLOAD_BYTES + 1),
    "nested": {"a": [FLOATS, {"b": FLOATS[::-1]}], "c": "text", "d": np.arange(10)},
    "pieces without a rest": np.zeros(4 * pieces.BATCH_BYTES, "u1"),
    "small": {"a": 1},
    "empty frame": pd.DataFrame({"a": pd.Series([], dtype="float64")}),
}


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, (pd.DataFrame, pd.Series)):
        pd.testing.assert_frame_equal(one, other)
    else:
        assert np.array_equal(one, other)


# A value in pieces


def moved(value, order=lambda batches: batches):
    departing = Departing(value)
    arriving = Arriving(departing.sizes)
    for batch in order(range(departing.pieces.batches)):
        for number, piece in enumerate(departing.pieces.read(batch)):
            arriving.pieces.write(batch, number, original(compressed(piece) or bytes(piece)))
    return arriving.value()


@pytest.fixture
def tiny_pieces(monkeypatch):
    """Pieces of 10 bytes, 3 in a batch, and buffers outside of the pickle from 7 bytes on."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10)
    monkeypatch.setattr(pieces, "BATCH_BYTES", 30)
    monkeypatch.setattr(pieces, "MIN_BUFFER_BYTES", 7)


@pytest.mark.parametrize("order", [list, reversed], ids=["in order", "backwards"])
@pytest.mark.parametrize(
    "value",
    [b"", b"x" * 100, [np.arange(n, dtype="u1") for n in range(30)], rows(30), {"a": np.zeros((0, 3))}, None],
    ids=["empty", "bytes", "arrays of all sizes", "frame", "empty array", "none"],
)
def test_pieces_make_the_value_again(tiny_pieces, value, order):
    assert_equal(value, moved(value, order))


def test_piece_is_compressed_only_where_that_makes_it_smaller():
    piece = memoryview(FLOATS[:100_000]).cast("B")
    text = memoryview(b"row 1, row 2, " * 100_000)
    assert compressed(piece) is None
    assert len(compressed(text)[1]) < len(text) / 10


def test_array_that_may_be_written_to_may_be_so_again():
    frozen = FLOATS.copy()
    frozen.flags.writeable = False
    assert [each.flags.writeable for each in moved([FLOATS, frozen])] == [True, False]


def test_data_outside_of_the_pickle_is_not_copied():
    assert Departing(FLOATS).sizes[0] < 1000


def test_value_with_ray_objects_inside_is_told(head):
    with RayHook("ray_client").connect() as hook:
        import ray

        def has_objects():
            return Departing([FLOATS, ray.put(1)]).has_objects

        assert hook.client.link.session.run(has_objects)


# Up and down


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_value_comes_back_equal(hook, uri, value):
    hook.put(value, uri=uri)
    assert_equal(value, hook.get(uri))
    hook.release(uri)


def test_large_argument_arrives(hook, uri):
    hook.submit(lambda array: float(array.sum()), FLOATS, uri=uri)
    hook.wait(uri, timeout=60)
    assert hook.get(uri) == float(FLOATS.sum())


def test_large_result_comes_back(hook, uri):
    hook.submit(lambda count: {"ones": [1.0] * count}, 3_000_000, uri=uri)
    hook.wait(uri, timeout=60)
    assert len(hook.get(uri)["ones"]) == 3_000_000


def test_large_value_with_ray_objects_inside_comes_back(hook, uri):
    def make(array):
        import ray

        return [ray.put(1), array]

    hook.submit(make, FLOATS, uri=uri)
    hook.wait(uri, timeout=60)
    assert_equal(hook.get(uri)[1], FLOATS)


@pytest.fixture
def client_hook(head):
    with RayHook("ray_client").connect() as hook:
        yield hook


def await_nothing_left(hook):
    """Wait for the owner to drop what failed: nobody else waits for that."""
    while hook.client.link.call("transfer", "count"):
        time.sleep(0.05)


def test_nothing_is_left_of_a_transfer(client_hook):
    uri = new_uri("ray_client")
    client_hook.put(FLOATS, uri=uri)
    client_hook.get(uri)
    assert client_hook.client.link.call("transfer", "count") == 0


def test_value_that_the_cluster_cannot_unpickle_is_refused(client_hook):
    uri = new_uri("ray_client")
    with pytest.raises(RayPicklingError, match=r"type list cannot be unpickled on the Ray cluster.*airflow_ray"):
        client_hook.put([uri, FLOATS], uri=uri)
    await_nothing_left(client_hook)


def test_value_that_this_process_cannot_unpickle_is_refused(client_hook):
    def make(size):
        import sys
        import types

        module = sys.modules["only_there"] = types.ModuleType("only_there")
        exec("class Thing: pass", vars(module))
        thing = module.Thing()
        thing.data = b"x" * size
        return thing

    uri = new_uri("ray_client")
    client_hook.submit(make, LARGE_UPLOAD_BYTES + 1, uri=uri)
    client_hook.wait(uri, timeout=60)
    with pytest.raises(RayPicklingError, match="only_there"):
        client_hook.get(uri)


def test_slow_transfer_tells_how_far_it_is(client_hook, monkeypatch):
    monkeypatch.setattr(hook_transfer, "PROGRESS_SECONDS", 0.02)
    said = []
    upload = Upload(Departing(FLOATS), "ndarray", lambda line, *args: said.append(line % args))
    link = client_hook.client.link
    values.move(link.session, upload, link.connect_again)
    link.call("transfer", "drop", upload.name)
    assert said[0].startswith("Uploaded ")
    assert {line.partition(" of ")[2] for line in said} == {f"{FLOATS.nbytes / 1e6:.0f} MB"}


MEASURED = """
import sys
import numpy as np
import psutil
from airflow_ray.hooks.ray import RayHook
from tools.peak import Peak

def rss():
    return psutil.Process().memory_info().rss

uri = sys.argv[1]
with RayHook("ray_client").connect() as hook:
    hook.put(np.zeros(3_000_000), uri=uri)
    hook.get(uri)
    array = np.random.default_rng(0).random(25_000_000)
    with Peak(rss) as peak:
        hook.put(array, uri=uri)
    print(peak.growth)
    with Peak(rss) as peak:
        copy = hook.get(uri)
    print(peak.growth - copy.nbytes)
    hook.release(uri)
"""


@pytest.mark.slow
def test_client_holds_little_more_than_the_value(head):
    command = [sys.executable, "-c", MEASURED, str(new_uri("ray_client"))]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    up, down = map(int, finished.stdout.split()[-2:])
    assert max(up, down) < 80_000_000


# Broken connections


@pytest.fixture
def own_server(head, monkeypatch):
    """A hook with a connection of its own, and the process that serves it."""
    # For how long Ray itself tries to connect again.
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "2")
    before = set(head.processes("specific-server"))
    with RayHook("ray_client").connect() as hook:
        (server,) = set(head.processes("specific-server")) - before
        yield hook, server


def once_half_way(monkeypatch, cls, method, act, batches=BATCHES):
    """Act when half of the batches have arrived, and return the list of all that were moved."""
    original = getattr(cls, method)
    moved = []

    def replaced(self, *args):
        moved.append(args)
        if len(moved) == batches // 2:
            act()
        return original(self, *args)

    monkeypatch.setattr(cls, method, replaced)
    return moved


def test_upload_goes_on_when_the_server_of_the_client_is_killed(own_server, monkeypatch, mocker):
    hook, server = own_server
    uri = new_uri("ray_client")
    array = np.concatenate([FLOATS] * 4)
    read = mocker.spy(pieces.Pieces, "read")
    once_half_way(monkeypatch, Upload, "_settle", server.kill, batches=4 * BATCHES)
    hook.put(array, uri=uri)
    # All that had not arrived, which is what the threads were about to send, and no more of the other half.
    assert 4 * BATCHES < read.call_count < 6 * BATCHES
    assert np.array_equal(hook.get(uri), array)


def test_download_goes_on_when_the_server_of_the_client_is_killed(own_server, monkeypatch):
    hook, server = own_server
    uri = new_uri("ray_client")
    hook.put(FLOATS, uri=uri)
    moved = once_half_way(monkeypatch, Download, "_take", server.kill)
    assert np.array_equal(hook.get(uri), FLOATS)
    batches = [batch for _, batch, _ in moved]
    # One may have been on its way, and only that one comes again.
    assert len(batches) - len(set(batches)) <= 1
    assert hook.client.link.call("transfer", "count") == 0


@pytest.mark.slow
def test_transfer_goes_on_when_the_network_was_away(head, monkeypatch):
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "2")
    proxy = FaultyProxy(head.ports[1])
    monkeypatch.setenv("AIRFLOW_CONN_RAY_FAR", f"ray://127.0.0.1:{proxy.port}")
    uri = new_uri("ray_far")

    def cut():
        proxy.network.clear()
        threading.Timer(8, proxy.network.set).start()
        proxy.cut()

    once_half_way(monkeypatch, Upload, "_settle", cut)
    with RayHook("ray_far").connect() as hook:
        hook.put(FLOATS, uri=uri)
        assert np.array_equal(hook.get(uri), FLOATS)
    proxy.close()


# Lost processes


def test_death_of_the_process_that_puts_the_value_together_is_told(head, client_hook, monkeypatch):
    def kill():
        for each in head.processes("ray::receive"):
            each.kill()

    once_half_way(monkeypatch, Upload, "_settle", kill)
    with pytest.raises(RayWorkerCrashedError, match="at the cluster's end of the transfer"):
        client_hook.put(np.concatenate([FLOATS] * 4), uri=new_uri("ray_client"))
    await_nothing_left(client_hook)


@pytest.mark.slow
def test_object_that_is_lost_on_the_way_down_is_told(monkeypatch):
    head = RayHead()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_TWO_NODES", head.client_uri)
    uri = new_uri("ray_two_nodes")
    try:
        node = head.add_node(second=1)
        with RayHook("ray_two_nodes").connect() as hook:
            hook.submit(lambda array: array + 1, FLOATS, uri=uri, resources={"second": 1}, max_retries=0)
            hook.wait(uri, timeout=60)
            once_half_way(monkeypatch, Download, "_take", node.kill)
            with pytest.raises(RayObjectLostError):
                hook.get(uri)
    finally:
        head.stop()


@pytest.mark.slow
def test_transfer_of_a_client_that_has_vanished_is_dropped(head, monkeypatch):
    # It is shipped with the owner. In a driver Ray may have given this class other methods, with globals of their own.
    monkeypatch.setitem(Transfers._until_silent.__globals__, "SILENT_SECONDS", 2.0)
    monkeypatch.setenv("AIRFLOW_CONN_RAY_IMPATIENT", f"{head.client_uri}?namespace=impatient")
    with RayHook("ray_impatient").connect() as hook:
        hook.client.link.call("transfer", "upload", "of nobody", Departing(FLOATS).sizes)
        assert hook.client.link.call("transfer", "count") == 1
        while hook.client.link.call("transfer", "count") or head.processes("ray::receive"):
            time.sleep(0.2)
