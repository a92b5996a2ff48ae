"""The command line of the gateway on a real head that has Ray and nothing of this package."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_ray.client.connection.bundle import bundle
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.cluster.gateway.command import answer_in
from airflow_ray.cluster.gateway.files import start_time
from airflow_ray.cluster.protocol import BUNDLE_NAME
from tests.ray_head import ENVIRONMENT, RayHead

TOKEN = "a token for these tests"


class CommandLine:
    """Runs the commands as on a machine of the cluster."""

    def __init__(self, head: RayHead, folder: Path) -> None:
        self.file = folder / BUNDLE_NAME
        self.file.write_bytes(bundle())
        self.port = free_ports(1)[0]
        self._address = f"--address=127.0.0.1:{head.ports[0]}"
        self._folder = f"--folder={folder / 'gateway'}"

    def begin(self, verb: str, *options: str, token: str = TOKEN) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.file), verb, self._address, self._folder, *options],
            env={**os.environ, **ENVIRONMENT, "AIRFLOW_RAY_GATEWAY_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin_start(self, *options: str) -> subprocess.Popen[str]:
        return self.begin("start", "--host=127.0.0.1", f"--port={self.port}", *options)

    def __call__(self, verb: str, *options: str):
        return answer_of(self.begin(verb, *options))

    def start(self, *options: str):
        note = answer_of(self.begin_start(*options))
        assert "error" not in note
        return note

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True


def answer_of(process: subprocess.Popen[str]):
    output, errors = process.communicate()
    assert '{"airflow_ray_gateway"' in output, errors
    return answer_in(output)


@pytest.fixture(scope="module")
def command(head: RayHead, tmp_path_factory: pytest.TempPathFactory):
    command = CommandLine(head, tmp_path_factory.mktemp("g"))
    yield command
    command("stop")


def test_start_says_where_it_is_and_a_second_one_finds_it(command):
    note = command.start()
    assert (note["host"], note["port"]) == ("127.0.0.1", command.port)
    assert command.answers()
    assert command("status")["pid"] == note["pid"]
    assert command.start()["pid"] == note["pid"]


@pytest.mark.slow
def test_ten_that_start_it_at_once_get_one_gateway_and_one_owner_for_each_namespace(command, head):
    command("stop")
    owners = {process.pid for process in head.processes("ray::Owner")}
    starts = [command.begin_start(f"--namespace={each}") for each in ["ten", "more"] * 5]
    notes = [answer_of(each) for each in starts]
    assert len({note["pid"] for note in notes}) == 1
    # One that has had nothing for a while may have ended meanwhile.
    assert len({process.pid for process in head.processes("ray::Owner")} - owners) == 2


@pytest.mark.slow
def test_it_comes_back_when_it_has_died_and_stays_away_when_it_was_stopped(command):
    pid = command.start()["pid"]
    os.kill(pid, signal.SIGKILL)
    while start_time(pid) or not command.answers():
        time.sleep(0.05)
    assert command("stop") == {"stopped": True}
    while command.answers():
        time.sleep(0.05)
    assert command("status") is None


def test_a_port_without_a_token_is_not_opened(command, tmp_path):
    process = command.begin("start", f"--folder={tmp_path / 'other'}", token="")
    assert "knows no token" in answer_of(process)["error"]
    assert process.returncode == 1


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(command):
    process = command.begin("status", "--address=127.0.0.1:1")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "127.0.0.1:1 does not answer: Connection refused" in answer_in(output)["error"]
