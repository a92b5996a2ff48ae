"""Several Ray Clients of one process: one that hangs is of no concern to the others."""

from __future__ import annotations

import json
import platform
import threading
import time
from concurrent import futures

import grpc
import pytest
import ray
from ray._private import client_mode_hook
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc
from ray.util.client import ray as ray_client

from airflow_ray.client.connection import as_client
from airflow_ray.client.connection.authentication import Authentication
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError, RayVersionMismatchError
from airflow_ray.hooks.ray import RayHook

OTHER_VERSION = "2.31.0"


class StubServer(
    ray_client_pb2_grpc.RayletDriverServicer,
    ray_client_pb2_grpc.RayletDataStreamerServicer,
    ray_client_pb2_grpc.RayletLogStreamerServicer,
):
    """Speaks as much of the Ray Client protocol as it takes to connect, and only answers while ``answers`` is set."""

    def __init__(self, ray_version: str) -> None:
        self.ray_version = ray_version
        self.answers = threading.Event()
        self.asked = threading.Event()
        self.left = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        ray_client_pb2_grpc.add_RayletDriverServicer_to_server(self, self.server)
        ray_client_pb2_grpc.add_RayletDataStreamerServicer_to_server(self, self.server)
        ray_client_pb2_grpc.add_RayletLogStreamerServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def ClusterInfo(self, request, context):
        return ray_client_pb2.ClusterInfoResponse(json=json.dumps({}))

    def KVPut(self, request, context):
        return ray_client_pb2.KVPutResponse()

    def Logstream(self, request_iterator, context):
        yield from ()

    def Datapath(self, request_iterator, context):
        for request in request_iterator:
            self.asked.set()
            self.answers.wait()
            kind = request.WhichOneof("type")
            response = ray_client_pb2.DataResponse(req_id=request.req_id)
            if kind == "init":
                response.init.CopyFrom(ray_client_pb2.InitResponse(ok=True))
            elif kind == "connection_info":
                info = ray_client_pb2.ConnectionInfoResponse(
                    num_clients=1,
                    ray_commit="x",
                    ray_version=self.ray_version,
                    python_version=platform.python_version(),
                )
                response.connection_info.CopyFrom(info)
            elif kind == "connection_cleanup":
                response.connection_cleanup.CopyFrom(ray_client_pb2.ConnectionCleanupResponse())
                self.left.set()
            yield response


@pytest.fixture
def server():
    """Return a function that starts a server."""
    servers = []

    def start(ray_version: str = ray.__version__) -> StubServer:
        servers.append(StubServer(ray_version))
        return servers[-1]

    yield start
    for each in servers:
        each.answers.set()
    # Those that were given up come to their end.
    while as_client._client_mode._users:
        time.sleep(0.05)
    for each in servers:
        each.server.stop(None)


@pytest.fixture(autouse=True)
def without_usage_statistics(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr("ray._common.usage.usage_lib.put_pre_init_usage_stats", lambda: None)
    monkeypatch.setattr("ray._common.usage.usage_lib.record_library_usage", lambda name: None)


def handler_of(server: StubServer, timeout: float = 30):
    return as_client._connected(server.address, Authentication(), "tests", time.monotonic() + timeout)


@pytest.fixture
def connected(monkeypatch):
    """Return a function that opens the connection of a hook to a server, and closes it again."""

    def connect(server: StubServer, conn_id: str, timeout: float) -> None:
        uri = f"ray://{server.address}?connect_timeout={timeout}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", uri)
        with RayHook(conn_id).connect():
            pass

    return connect


@pytest.mark.slow
def test_connection_that_hangs_holds_up_no_other_one(server, connected):
    silent, other = server(), server(OTHER_VERSION)
    other.answers.set()
    hanging = start_in_thread(lambda: connected(silent, "ray_silent", timeout=10))
    assert silent.asked.wait(300)
    with pytest.raises(RayVersionMismatchError):
        connected(other, "ray_other", timeout=60)
    assert not hanging.done()
    with pytest.raises(RayConnectionError):
        hanging.result(300)


def test_connection_that_comes_too_late_is_closed(server, connected):
    late = server()
    with pytest.raises(RayConnectionError, match="No connection to the Ray cluster"):
        connected(late, "ray_late", timeout=1)
    late.answers.set()
    assert late.left.wait(300)


def test_client_that_leaves_keeps_client_mode_for_one_that_connects(server):
    ready, silent = server(), server()
    ready.answers.set()
    leaving = handler_of(ready)
    connecting = start_in_thread(lambda: handler_of(silent))
    assert silent.asked.wait(300)
    as_client._disconnect(leaving)
    assert client_mode_hook.is_client_mode_enabled
    silent.answers.set()
    as_client._disconnect(connecting.result(300))


def test_last_client_that_leaves_switches_client_mode_off(server):
    ready = server()
    ready.answers.set()
    as_client._disconnect(handler_of(ready))
    assert not client_mode_hook.is_client_mode_enabled


def test_connection_that_ray_loses_as_soon_as_it_is_made_is_tried_again(server, monkeypatch):
    """A head that loses one just then cannot be brought about: Ray's own calls fail likewise a moment before."""
    losses = iter([None])

    def lost_once() -> None:
        for _ in losses:
            ray_client.get_context().disconnect()
            raise AssertionError

    monkeypatch.setattr("ray._common.usage.usage_lib.put_pre_init_usage_stats", lost_once)
    ready = server()
    ready.answers.set()
    as_client._disconnect(handler_of(ready))
    assert list(losses) == []
    assert not client_mode_hook.is_client_mode_enabled


def test_client_that_could_not_connect_leaves_client_mode_off(server):
    other = server(OTHER_VERSION)
    other.answers.set()
    with pytest.raises(RayVersionMismatchError):
        handler_of(other)
    assert not client_mode_hook.is_client_mode_enabled


def test_goodbye_that_hangs_ends(server, monkeypatch):
    monkeypatch.setattr(as_client, "GOODBYE_SECONDS", 0.2)
    silent = server()
    silent.answers.set()
    handler = handler_of(silent)
    silent.answers.clear()
    as_client._disconnect(handler)
    assert not silent.left.is_set()
