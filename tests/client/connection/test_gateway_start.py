"""Starting the gateway from Airflow, where nothing answers at its port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from airflow_ray.client.connection import gateway_start
from airflow_ray.client.connection.gateway_start import ensure_started, require_token
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.client.connection.retrying import is_passing
from airflow_ray.client.connection.settings import RaySettings
from airflow_ray.cluster.gateway.settings import sum_of
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayConfigurationError,
    RayConnectionError,
    RayGatewayUnreachableError,
    RayVersionMismatchError,
)
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.proxy import FaultyProxy
from tests.ray_head import RayHead

TOKEN = "a token that nobody guesses"
NOTE = {"pid": 1, "host": "0.0.0.0", "port": 8815}

START = """
import sys, time
from airflow_ray.client.connection.gateway_start import ensure_started
from airflow_ray.client.connection.settings import RaySettings

ensure_started(RaySettings(**{fields!r}), time.monotonic() + 100)
print("ray" in sys.modules)
"""


def settings(**fields: Any) -> RaySettings:
    given = {"conn_id": "ray_default", "host": "127.0.0.1", "mode": "gateway", "password": TOKEN, **fields}
    return RaySettings.model_validate(given)


def soon() -> float:
    """A deadline that is there to pass."""
    return time.monotonic() + 1


def in_time() -> float:
    """One before which whoever is asked answers."""
    return time.monotonic() + 100


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its own notes nor what may listen on the usual ports."""
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR", str(tmp_path / "state"))
    for name, port in zip(("DASHBOARD_PORT", "CLIENT_PORT"), free_ports(2), strict=True):
        monkeypatch.setattr(gateway_start, name, port)


@dataclass
class FakeDashboard:
    """Answers as Ray's dashboard does, for what a real one does not do when it is asked to."""

    output: str = ""
    status: str = "SUCCEEDED"
    #: The state of a job that is there already, by the first name that is asked for.
    earlier: str | None = None
    token: str | None = None
    #: Whether the head vanishes when it has told what the job printed.
    vanishes: bool = False
    #: For how long it thinks of what a job has printed, in seconds.
    thinks: float = 0.0
    version: Any = field(default_factory=lambda: {"version": "4", "ray_version": "2.60.0"})
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, self.version
        if path.startswith("/api/packages"):
            return (404 if method == "GET" else 200), ""
        if method == "POST":
            self.submitted.append(json.loads(body))
            if self.earlier and len(self.submitted) == 1:
                return 500, f"ValueError: Job with submission_id {self._first} already exists."
            return 200, {"submission_id": self.submitted[-1]["submission_id"]}
        if path.endswith("/logs"):
            time.sleep(self.thinks)
            return 200, {"logs": self.output}
        is_earlier = self.earlier and path.endswith(f"/{self._first}")
        return 200, {"status": self.earlier if is_earlier else self.status, "message": ""}

    @property
    def _first(self) -> str:
        return str(self.submitted[0]["submission_id"])


@pytest.fixture
def dashboard() -> Iterator[Callable[..., FakeDashboard]]:
    servers = []

    def start(**fields: Any) -> FakeDashboard:
        fake = FakeDashboard(**fields)

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                given = self.headers.get("authorization")
                if fake.vanishes and any(path.endswith("/logs") for _, path, _ in fake.asked):
                    self.close_connection = True
                    return
                fake.asked.append((self.command, self.path, given))
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if fake.token is not None and given != f"Bearer {fake.token}":
                    status, content = (403 if given else 401), "Unauthorized"
                else:
                    status, content = fake.answer(self.command, self.path, body)
                text = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        return fake

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(answer: Any) -> str:
    return f"some words of Ray's\n{json.dumps({'airflow_ray_gateway': answer})}\n"


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of somebody who answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("password", [None, "fifteen letters"])
def test_a_connection_without_a_token_is_refused_before_anything_is_asked(dashboard, password):
    fake = dashboard()
    with pytest.raises(RayConfigurationError, match="a token of 16 characters or more"):
        ensure_started(settings(password=password, dashboard_url=fake.url), in_time())
    assert fake.asked == []


def test_a_token_of_sixteen_characters_will_do():
    assert require_token(settings(password="sixteen letters!")) == "sixteen letters!"


def test_the_job_gets_the_sum_of_the_token_and_never_the_token(dashboard, listening):
    fake = dashboard(output=said(NOTE))
    ensure_started(settings(dashboard_url=fake.url, port=listening, namespace="a b"), in_time())
    (job,) = fake.submitted
    assert f"--namespace 'a b' --port {listening} --token-sha256 {sum_of(TOKEN)}" in job["entrypoint"]
    assert TOKEN not in json.dumps([fake.submitted, fake.asked])


def test_a_dashboard_that_asks_for_the_token_gets_it(dashboard, listening):
    fake = dashboard(output=said(NOTE), token=TOKEN)
    ensure_started(settings(dashboard_url=fake.url, port=listening), in_time())
    assert fake.submitted


def test_a_dashboard_that_wants_another_token_is_told_apart(dashboard):
    fake = dashboard(token="another token")
    with pytest.raises(RayAuthenticationError, match="asks for another token than the password"):
        ensure_started(settings(dashboard_url=fake.url), in_time())


def test_a_web_page_that_is_no_dashboard_is_told(dashboard):
    fake = dashboard(version="<html>Log in</html>")
    with pytest.raises(RayConnectionError, match="is not a Ray dashboard: 200 OK: <html>Log in"):
        ensure_started(settings(dashboard_url=fake.url), in_time())


def test_where_nothing_is_open_both_ways_and_the_bundle_are_named():
    ports = free_ports(1)[0], gateway_start.DASHBOARD_PORT, gateway_start.CLIENT_PORT
    with pytest.raises(RayConnectionError, match="airflow_ray gateway bundle") as told:
        ensure_started(settings(dashboard_url=f"http://127.0.0.1:{ports[0]}"), in_time())
    assert [port for port in ports if f"127.0.0.1:{port}" not in str(told.value)] == []


def test_what_the_head_lacks_is_told(dashboard):
    fake = dashboard(status="FAILED", output=said({"error": "has no pyarrow", "is_of_versions": True}))
    with pytest.raises(RayVersionMismatchError, match="has no pyarrow"):
        ensure_started(settings(dashboard_url=fake.url), in_time())


def test_why_a_gateway_does_not_start_is_told(dashboard):
    fake = dashboard(status="FAILED", output=said({"error": "the port is taken", "is_of_versions": False}))
    with pytest.raises(RayConnectionError, match="could not be started: the port is taken"):
        ensure_started(settings(dashboard_url=fake.url), in_time())


@pytest.fixture
def on_8815(dashboard) -> FakeDashboard:
    """Of a head whose gateway runs there already."""
    fake: FakeDashboard = dashboard(status="FAILED", output=said({"error": "It runs already", "port": 8815}))
    return fake


def test_one_that_runs_on_another_port_will_do_where_it_answers_at_that_of_the_connection(on_8815, listening):
    ensure_started(settings(dashboard_url=on_8815.url, port=listening), in_time())
    assert len(on_8815.submitted) == 1


def test_one_that_runs_on_another_port_and_cannot_be_reached_is_told_with_both(on_8815):
    (port,) = free_ports(1)
    words = f"listens on port 8815 of the head.*Open TCP port {port}.*leads from there to port 8815"
    with pytest.raises(RayGatewayUnreachableError, match=words):
        ensure_started(settings(dashboard_url=on_8815.url, port=port), soon())


def test_a_job_that_says_nothing_is_told_with_its_last_lines(dashboard):
    fake = dashboard(status="FAILED", output="sh: 1: start: not found")
    with pytest.raises(RayConnectionError, match=r"ended without a gateway. It says:\nsh: 1: start: not found"):
        ensure_started(settings(dashboard_url=fake.url), in_time())


def test_a_job_that_does_not_end_is_given_up(dashboard):
    fake = dashboard(status="PENDING", output="installing")
    with pytest.raises(RayConnectionError, match=r"has not ended in time: it is PENDING\. installing"):
        ensure_started(settings(dashboard_url=fake.url), soon())


def test_what_a_job_that_does_not_end_says_is_heard_of_a_busy_dashboard_too(dashboard):
    fake = dashboard(status="PENDING", output="installing", thinks=2)
    with pytest.raises(RayConnectionError, match=r"has not ended in time: it is PENDING\. installing"):
        ensure_started(settings(dashboard_url=fake.url), soon())


def test_a_job_of_another_task_is_waited_for(dashboard, listening):
    fake = dashboard(output=said(NOTE), earlier="RUNNING")
    with pytest.raises(RayConnectionError, match="it is RUNNING"):
        ensure_started(settings(dashboard_url=fake.url, port=listening), soon())
    assert len(fake.submitted) == 1


def test_after_a_job_that_has_ended_another_one_runs(dashboard, listening):
    fake = dashboard(output=said(NOTE), earlier="FAILED")
    ensure_started(settings(dashboard_url=fake.url, port=listening), in_time())
    first, second = (job["submission_id"] for job in fake.submitted)
    assert second == f"{first}-2"


def test_one_that_cannot_be_reached_is_started_once_and_remembered(dashboard):
    fake, port = dashboard(output=said(NOTE)), free_ports(1)[0]
    with pytest.raises(RayGatewayUnreachableError, match=f"Open TCP port {port}") as told:
        ensure_started(settings(dashboard_url=fake.url, port=port), soon())
    assert not is_passing(told.value)
    asked = len(fake.asked)
    with pytest.raises(RayGatewayUnreachableError, match="seconds ago"):
        ensure_started(settings(dashboard_url=fake.url, port=port), soon())
    assert len(fake.asked) == asked


def test_head_that_vanishes_when_it_has_started_one_is_not_taken_for_a_closed_port(dashboard, tmp_path):
    fake = dashboard(output=said(NOTE), vanishes=True)
    with pytest.raises(RayConnectionError, match="now neither of them answers") as told:
        ensure_started(settings(dashboard_url=fake.url, port=free_ports(1)[0]), soon())
    assert is_passing(told.value)
    assert list(tmp_path.glob("state/unreachable-*")) == []


def test_after_ten_minutes_it_is_started_again(dashboard, tmp_path):
    fake, port = dashboard(output=said(NOTE)), free_ports(1)[0]
    connection = settings(dashboard_url=fake.url, port=port)
    with pytest.raises(RayGatewayUnreachableError):
        ensure_started(connection, soon())
    (memory,) = (tmp_path / "state").glob("unreachable-*")
    os.utime(memory, (0, time.time() - 601))
    with socket.create_server(("127.0.0.1", port)):
        ensure_started(connection, in_time())
    assert not memory.exists()


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """A head with a dashboard, on whose path is the Python that has Ray."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = RayHead(dashboard_port=free_ports(1)[0], PATH=path)
    yield head
    head.stop()


@pytest.fixture(scope="module")
def guarded_head() -> Iterator[RayHead]:
    """One that asks for a token."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    guards = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    head = RayHead(dashboard_port=free_ports(1)[0], PATH=path, **guards)
    yield head
    head.stop()


def stop_gateway(head: RayHead) -> None:
    address = f"--address=127.0.0.1:{head.ports[0]}"
    subprocess.run([sys.executable, "-m", "airflow_ray.cluster.gateway", "stop", address], check=False)


def in_own_process(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


@pytest.mark.slow
def test_five_tasks_at_once_start_one_by_one_job_without_ray(head):
    url = f"http://127.0.0.1:{head.dashboard_port}"
    connection = settings(port=free_ports(1)[0], dashboard_url=url)
    fields = {**connection.model_dump(include={"conn_id", "host", "port", "mode", "dashboard_url"}), "password": TOKEN}
    tasks = [in_own_process(START.format(fields=fields)) for _ in range(5)]
    assert [output_of(each).splitlines()[-1] for each in tasks] == ["False"] * 5
    jobs = [each for each in httpx.get(f"{url}/api/jobs/").json() if each["type"] == "SUBMISSION"]
    assert len(jobs) == 1
    assert len(head.processes("ray::Owner")) == 1


@pytest.mark.slow
def test_where_there_is_no_dashboard_it_is_started_over_ray_client(head, monkeypatch):
    stop_gateway(head)
    monkeypatch.setattr(gateway_start, "CLIENT_PORT", head.ports[1])
    monkeypatch.setitem(gateway_start.PORTS, "client", head.ports[1])
    (port,) = free_ports(1)
    ensure_started(settings(port=port, dashboard_url=f"http://127.0.0.1:{free_ports(1)[0]}"), in_time())


@pytest.mark.slow
def test_work_runs_through_another_port_that_leads_to_the_gateway(head, monkeypatch):
    stop_gateway(head)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{head.dashboard_port}"
    ensure_started(settings(port=port, dashboard_url=url), in_time())
    proxy = FaultyProxy(port)
    ensure_started(settings(port=proxy.port, dashboard_url=url), in_time())
    monkeypatch.setenv("AIRFLOW_CONN_RAY_PROXY", f"ray://:{quote(TOKEN)}@127.0.0.1:{proxy.port}?mode=gateway")
    uri = new_uri("ray_proxy")
    with RayHook("ray_proxy").connect() as hook:
        hook.submit(sum, [1, 2], uri=uri)
        hook.wait(uri)
        assert hook.get(uri) == 3
    proxy.close()


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_gets_that_of_the_connection(guarded_head):
    url = f"http://127.0.0.1:{guarded_head.dashboard_port}"
    ensure_started(settings(port=free_ports(1)[0], dashboard_url=url), in_time())
    with pytest.raises(RayAuthenticationError, match="another token than the password"):
        ensure_started(settings(password="not the token of it", dashboard_url=url), in_time())
