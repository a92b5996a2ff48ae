"""Connecting: the three modes, and what a user sees when it does not work."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from concurrent import futures
from contextlib import contextmanager, suppress
from urllib.parse import quote, urlencode

import grpc
import psutil
import pytest
import ray
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

from airflow_ray.client import xcom_values
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.exceptions import ObjectURIError, RayConfigurationError, RayConnectionError, RayVersionMismatchError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.release import RayReleaseOperator
from airflow_ray.sensors.object import RayObjectSensor
from tests.conftest import new_uri
from tests.ray_head import RayHead


@pytest.fixture
def connect_to(monkeypatch):
    """Return a function that connects to a port, with a deadline of 5 seconds, and gives the error."""

    def connect(port: int, scheme: str = "ray", timeout: float = 5) -> RayConnectionError:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_BAD", f"{scheme}://127.0.0.1:{port}?connect_timeout={timeout}")
        with pytest.raises(RayConnectionError) as caught, RayHook("ray_bad").connect():
            pass
        return caught.value

    return connect


@contextmanager
def web_server():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *args: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class HeadOfAnotherVersion(
    ray_client_pb2_grpc.RayletDriverServicer,
    ray_client_pb2_grpc.RayletDataStreamerServicer,
    ray_client_pb2_grpc.RayletLogStreamerServicer,
):
    """Speaks as much of the Ray Client protocol as a connection needs to learn the versions."""

    def __init__(
        self,
        ray_version: str,
        python_version: str,
        crashes: int = 0,
        falls_silent: bool = False,
        crash: str = "Starting Ray client server failed.",
    ) -> None:
        self.versions = {"ray_version": ray_version, "python_version": python_version}
        self.crashes = crashes
        self.falls_silent = falls_silent
        self.crash = crash

    def ClusterInfo(self, request, context):
        return ray_client_pb2.ClusterInfoResponse(json=json.dumps({}))

    def Logstream(self, request_iterator, context):
        yield from ()

    def Datapath(self, request_iterator, context):
        for request in request_iterator:
            kind = request.WhichOneof("type")
            response = ray_client_pb2.DataResponse(req_id=request.req_id)
            if kind == "init" and self.falls_silent and not self.crashes:
                client_has_left = threading.Event()
                context.add_callback(client_has_left.set)
                client_has_left.wait()
                return
            if kind == "init":
                response.init.CopyFrom(self._init_response())
            elif kind == "connection_info":
                info = ray_client_pb2.ConnectionInfoResponse(num_clients=1, ray_commit="x", **self.versions)
                response.connection_info.CopyFrom(info)
            elif kind == "connection_cleanup":
                response.connection_cleanup.CopyFrom(ray_client_pb2.ConnectionCleanupResponse())
            yield response

    def _init_response(self):
        if self.crashes:
            self.crashes -= 1
            return ray_client_pb2.InitResponse(ok=False, msg=f"RuntimeError: {self.crash}")
        return ray_client_pb2.InitResponse(ok=True)


@contextmanager
def head_of_another_version(*arguments, **behaviour):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    servicer = HeadOfAnotherVersion(*arguments, **behaviour)
    ray_client_pb2_grpc.add_RayletDriverServicer_to_server(servicer, server)
    ray_client_pb2_grpc.add_RayletDataStreamerServicer_to_server(servicer, server)
    ray_client_pb2_grpc.add_RayletLogStreamerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def test_closed_port_is_told_apart(connect_to):
    assert "Connection refused" in str(connect_to(free_ports(1)[0]))


def test_host_that_does_not_exist_is_told_apart(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_BAD", "ray://no-such-host.invalid:10001")
    with pytest.raises(RayConnectionError, match=r"no-such-host\.invalid"), RayHook("ray_bad").connect():
        pass


def test_port_of_a_web_server_is_told_apart(connect_to):
    with web_server() as port:
        assert "another service listens on that port" in str(connect_to(port))


def test_port_of_the_control_service_is_told_apart(head: RayHead, connect_to):
    assert "another service listens on that port" in str(connect_to(head.ports[0]))


def test_port_that_stays_silent_ends_at_the_deadline(connect_to):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "nothing answered" in str(connect_to(silent.getsockname()[1], timeout=1))


@pytest.mark.slow
def test_driver_of_a_port_that_stays_silent_ends_at_the_deadline(monkeypatch, tmp_path):
    script = (
        "from airflow_ray.hooks.ray import RayHook\n"
        "from airflow_ray.exceptions import RayConnectionError\n"
        "try:\n"
        "    RayHook('ray_bad').connect().__enter__()\n"
        "except RayConnectionError as error:\n"
        "    print(error)\n"
        "import os; os._exit(0)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"ray://127.0.0.1:{silent.getsockname()[1]}?mode=driver&connect_timeout=2"
        monkeypatch.setenv("AIRFLOW_CONN_RAY_BAD", uri)
        finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "nothing answered" in finished.stdout


@pytest.mark.parametrize(
    ("versions", "shown"), [(("2.31.0", "3.11.7"), "2.31.0"), ((ray.__version__, "3.8.1"), "3.8.1")]
)
def test_other_version_of_the_cluster_is_told_with_both_versions(connect_to, versions, shown):
    with head_of_another_version(*versions) as port:
        error = connect_to(port)
    assert isinstance(error, RayVersionMismatchError)
    assert shown in str(error)
    assert ray.__version__ in str(error)


@pytest.mark.parametrize(
    "crash",
    [
        "Starting Ray client server failed.",
        "Attempted to reconnect a session that has already been cleaned up.",
        "Proxy failed to Connect to backend!",
    ],
)
def test_client_server_that_does_not_start_is_tried_again(connect_to, crash):
    with head_of_another_version("2.31.0", "3.11.7", crashes=2, crash=crash) as port:
        assert isinstance(connect_to(port, timeout=20), RayVersionMismatchError)


def test_client_server_that_always_crashes_ends_at_the_deadline(connect_to):
    with head_of_another_version("2.31.0", "3.11.7", crashes=10_000) as port:
        assert "Starting Ray client server failed" in str(connect_to(port))


def test_crash_is_told_where_the_next_try_has_no_answer_in_time(connect_to):
    with head_of_another_version("2.31.0", "3.11.7", crashes=1, falls_silent=True) as port:
        told = str(connect_to(port))
    assert told.startswith("No connection to the Ray cluster at 127.0.0.1")
    assert "Starting Ray client server failed" in told


@pytest.mark.slow
def test_two_connections_of_one_process_reach_two_namespaces(head: RayHead, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_OTHER", f"{head.client_uri}&namespace=other")
    here, there = new_uri("ray_client"), new_uri("ray_other")
    with RayHook("ray_client").connect() as one, RayHook("ray_other").connect() as two:
        one.put("here", uri=here)
        two.put("there", uri=there)
        assert (one.get(here), two.get(there)) == ("here", "there")


def test_client_and_driver_work_side_by_side(head: RayHead):
    client_uri, driver_uri = new_uri("ray_client"), new_uri("ray_driver")
    with RayHook("ray_client").connect() as client, RayHook("ray_driver").connect() as driver:
        client.submit(lambda: "client", uri=client_uri)
        driver.submit(lambda: "driver", uri=driver_uri)
        assert client.wait(client_uri)["state"] == driver.wait(driver_uri)["state"] == "SUCCEEDED"


@pytest.mark.slow
def test_connections_of_two_threads_do_not_disturb_each_other(head: RayHead):
    def work(number):
        uri = new_uri("ray_client", f"task_{number}")
        with RayHook("ray_client").connect() as hook:
            hook.submit(lambda: number, uri=uri)
            hook.wait(uri)
            return hook.get(uri)

    with futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [0, 1, 2]


@pytest.mark.slow
def test_killed_client_server_is_no_hang(head: RayHead):
    """The process that serves one Ray Client dies: the next connection works."""
    uri = new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.put("kept", uri=uri)
        servers = head.processes("--mode=specific-server")
    for server in servers:
        # One that has lost its client ends by itself.
        with suppress(psutil.NoSuchProcess):
            server.kill()
    assert RayHook("ray_client").get(uri) == "kept"


@pytest.mark.parametrize(
    ("uri", "wrong"),
    [
        ("ray://host?mode=teleport", "mode must be one of gateway, client, driver, local"),
        ("ray://?mode=client", "host is missing"),
        ("ray://", "neither host nor mode is set"),
        ("ray://:10001", "neither host nor mode is set"),
        ("ray://?address=http%3A%2F%2Fhead%3A8265", "address is a field of another Ray package"),
        ("ray://host?connect_timeout=soon", "connect_timeout must be a number"),
        ("ray://host?runtime_env=nothing", "runtime_env must be a JSON object"),
    ],
)
def test_wrong_field_of_a_connection_is_named(monkeypatch, uri, wrong):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_BAD", uri)
    with pytest.raises(RayConfigurationError, match=wrong):
        _ = RayHook("ray_bad").client.settings


@pytest.mark.parametrize(
    ("uri", "mode", "address"),
    [
        ("ray://head", "client", "head:10001"),
        ("ray://head:20001", "client", "head:20001"),
        ("ray://head?mode=driver", "driver", "head:6379"),
        ("ray://?mode=driver", "driver", "auto"),
        ("ray://?mode=local", "local", "auto"),
    ],
)
def test_mode_and_address_follow_from_the_connection(monkeypatch, uri, mode, address):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_SOME", uri)
    settings = RayHook("ray_some").client.settings
    assert (settings.mode, settings.address) == (mode, address)


def test_unreachable_head_is_shown_by_the_test_button(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_BAD", f"ray://127.0.0.1:{free_ports(1)[0]}")
    successful, message = RayHook("ray_bad").test_connection()
    assert not successful
    assert "Connection refused" in message


def test_nothing_connects_when_a_hook_is_made():
    assert RayHook("no_such_connection").ray_conn_id == "no_such_connection"


@pytest.mark.slow
def test_connecting_keeps_airflows_handler_of_sigterm(head: RayHead):
    import signal

    handler = signal.getsignal(signal.SIGTERM)
    for conn_id in ("ray_client", "ray_driver"):
        with RayHook(conn_id).connect():
            assert signal.getsignal(signal.SIGTERM) is handler


AWKWARD = "a b/c?d=e&f%g:h@i#ü"


def test_connection_as_a_uri_takes_special_characters(monkeypatch):
    fields = {"namespace": AWKWARD, "checkpoint_path": "s3://bucket/ü b", "runtime_env": '{"env_vars": {"A": "b&c=d"}}'}
    uri = f"ray://:{quote(AWKWARD, safe='')}@head:1?{urlencode(fields)}"
    monkeypatch.setenv("AIRFLOW_CONN_RAY_SOME", uri)
    settings = RayHook("ray_some").client.settings
    assert settings.authentication.token == AWKWARD
    assert settings.namespace == AWKWARD
    assert settings.checkpoint_path == "s3://bucket/ü b"
    assert settings.runtime_env == {"env_vars": {"A": "b&c=d"}}


def test_connection_as_json_takes_special_characters(monkeypatch):
    extra = {"namespace": AWKWARD, "runtime_env": {"env_vars": {"A": AWKWARD}}, "tls": False, "tls_cert": None}
    connection = {"conn_type": "ray", "host": "head", "password": AWKWARD, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_SOME", json.dumps(connection))
    settings = RayHook("ray_some").client.settings
    assert settings.authentication.token == AWKWARD
    assert settings.namespace == AWKWARD
    assert settings.runtime_env == {"env_vars": {"A": AWKWARD}}
    assert settings.authentication.tls is None


def test_test_button_says_what_was_found(head: RayHead):
    successful, message = RayHook("ray_client").test_connection()
    assert successful
    assert f"Ray {ray.__version__} and Python" in message
    assert "1 node: 4 CPU" in message


def test_test_button_says_that_checkpoints_cannot_be_written(head: RayHead, monkeypatch, tmp_path):
    tmp_path.joinpath("file").touch()
    uri = f"{head.client_uri}&{urlencode({'checkpoint_path': f'file://{tmp_path}/file'})}"
    monkeypatch.setenv("AIRFLOW_CONN_RAY_SOME", uri)
    successful, message = RayHook("ray_some").test_connection()
    assert not successful
    assert f"{tmp_path}/file" in message


@pytest.fixture
def only_other_connections(monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__ALLOWED_URI_CONNECTIONS", "ray_other, ray_third")


def test_argument_that_names_a_connection_that_is_not_allowed_is_refused(only_other_connections, head: RayHead):
    with pytest.raises(ObjectURIError, match="only allows ray_other, ray_third"):
        RayHook("ray_client").submit(sum, new_uri("ray_client"), uri=new_uri("ray_client"))


def test_work_needs_no_permission_for_its_own_uri(only_other_connections, head: RayHead):
    uri = new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.submit(sum, [1, 2], uri=uri)
        hook.wait(uri)
        assert hook.get(uri) == 3


def test_sensor_refuses_a_connection_that_is_not_allowed(only_other_connections):
    sensor = RayObjectSensor(task_id="wait", object_uri=str(new_uri("ray_client")))
    with pytest.raises(ObjectURIError, match="allowed_uri_connections"):
        sensor.poke({})


def test_release_refuses_a_connection_that_is_not_allowed(only_other_connections):
    release = RayReleaseOperator(task_id="release", object_uri=str(new_uri("ray_client")))
    with pytest.raises(ObjectURIError, match="allowed_uri_connections"):
        release.execute({})


def test_arguments_that_are_an_object_as_a_whole_are_refused_likewise(only_other_connections):
    operator = RayPythonOperator(
        task_id="task", python_callable=sum, op_args=str(new_uri("ray_client")), ray_conn_id="ray_client"
    )
    with pytest.raises(ObjectURIError, match="allowed_uri_connections"):
        operator._remote_call({})


def test_plain_task_gets_no_object_of_a_connection_that_is_not_allowed(only_other_connections):
    with pytest.raises(ObjectURIError, match="allowed_uri_connections"):
        xcom_values.received(str(new_uri("ray_client")), is_whole=True)


def test_connection_on_the_list_is_allowed(monkeypatch, head: RayHead):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__ALLOWED_URI_CONNECTIONS", "ray_other,ray_client")
    given, made = new_uri("ray_client"), new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.put([1, 2], uri=given)
        hook.submit(sum, given, uri=made)
        hook.wait(made)
        assert hook.get(made) == 3
