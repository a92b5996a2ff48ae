"""A cluster on another host than Airflow, two ports of which can be reached, and a network that fails."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import await_file
from tests.ray_head import ENVIRONMENT
from tools.two_hosts import CLIENT_PORT, CONTROL_PORT, DASHBOARD_PORT, GATEWAY_PORT, TwoHosts, reason_against

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).parent / "on_airflow_host.py")
CUT_SECONDS = 60
# In which the head's host is to find out that the other one has vanished, and a process to end.
NOTICE_SECONDS = 120
END_SECONDS = 240
# With these the upload takes half a minute.
SLOW_MEGABYTES = 5


class Process:
    """Does one thing on the host of Airflow: see ``on_airflow_host.py``.

    :param what: that thing.
    :param folder: of its files.
    """

    def __init__(self, hosts: TwoHosts, token: str, what: str, folder: Path, *arguments: str) -> None:
        self.what = what
        self.folder = folder
        self._log = folder / f"{what}.log"
        place = f"{hosts.head.address}:{GATEWAY_PORT}"
        environment = {
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_RAY_FAR": f"ray://:{token}@{place}?mode=gateway&connect_timeout=180",
            "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(folder / "state"),
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                hosts.airflow.command(sys.executable, SCRIPT, what, str(folder), *arguments),
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def await_ready(self, name: str = "") -> None:
        self._await(lambda: Path(self.folder, f"{name or self.what}.ready").exists())

    def await_log(self, text: str) -> None:
        self._await(lambda: text in self.log)

    def go(self) -> None:
        Path(self.folder, f"{self.what}.go").touch()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def runs(self) -> int:
        """How often its callable ran."""
        return len(Path(self.folder, f"{self.what}.ledger").read_text().splitlines())

    def told(self) -> dict[str, Any]:
        """Return what it tells in the end."""
        assert self._process.wait(END_SECONDS) == 0, self.log
        told: dict[str, Any] = json.loads(self.log.splitlines()[-1])
        return told

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _await(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            assert self._process.poll() is None, self.log
            time.sleep(0.05)


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    """A head that has no gateway, and a host of Airflow."""
    if reason := reason_against():
        pytest.skip(f"Two hosts cannot be made: {reason}")
    with closing(TwoHosts()) as hosts:
        head = hosts.start_ray(ENVIRONMENT)
        yield hosts
        head.stop()


@pytest.fixture(scope="module")
def token() -> str:
    return secrets.token_hex(16)


@pytest.fixture(scope="module")
def first(hosts: TwoHosts, token: str, tmp_path_factory: pytest.TempPathFactory) -> Process:
    """The first that connects."""
    ports = map(str, (GATEWAY_PORT, DASHBOARD_PORT, CONTROL_PORT, CLIENT_PORT))
    return Process(hosts, token, "everything", tmp_path_factory.mktemp("first"), *ports)


@pytest.mark.slow
def test_first_connection_starts_the_gateway_and_all_works_through_two_ports(first):
    assert first.told() == {"state": "SUCCEEDED", "same": [True, True, True], "ports": [GATEWAY_PORT, DASHBOARD_PORT]}
    assert f":{DASHBOARD_PORT}" in re.findall(r"Starting the gateway of the Ray cluster by a job at (.*)", first.log)[0]


@pytest.fixture(scope="module")
def cut(
    hosts: TwoHosts, first: Process, token: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Process]]:
    """What goes on while no packet arrives for a minute."""
    first.told()
    folder = tmp_path_factory.mktemp("cut")
    hosts.slow_down(SLOW_MEGABYTES)
    names = "wait", "submit", "submit_large", "forsake", "pause", "upload"
    processes = {name: Process(hosts, token, name, folder) for name in names}
    for each in processes.values():
        each.await_ready()
    await_file(folder / "wait.ledger")
    await_file(folder / "forsake.ledger")
    # Only now, lest it be over before the cut where the others take long to get ready.
    processes["upload"].go()
    processes["upload"].await_log("Uploaded")
    # What is submitted now arrives, and the answer does not.
    hosts.airflow.go_deaf()
    processes["submit"].go()
    await_file(folder / "submit.ledger")
    hosts.head.go_deaf()
    begun = time.monotonic()
    processes["submit_large"].go()
    # The work ends meanwhile.
    Path(folder, "wait.gate").touch()
    while connections(hosts) and time.monotonic() < begun + NOTICE_SECONDS:
        time.sleep(0.5)
    Path(folder, "connections").write_text(connections(hosts))
    time.sleep(max(0.0, begun + CUT_SECONDS - time.monotonic()))
    hosts.mend()
    hosts.speed_up()
    yield processes
    for each in processes.values():
        each.kill()


def connections(hosts: TwoHosts) -> str:
    """Return the connections that the gateway takes for open."""
    command = hosts.head.command("ss", "-Htn", "state", "established", f"( sport = :{GATEWAY_PORT} )")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["upload", "wait", "submit", "submit_large"])
def test_nothing_is_lost_while_no_packet_arrives_and_the_log_says_so(cut, what):
    told = cut[what].told()
    assert (told["state"], set(told["same"])) == ("SUCCEEDED", {True})
    assert re.search(
        # The last is what gRPC says where it has closed the connection by itself and no longer knows why.
        r"The connection to the Ray cluster broke: (no sign of life for \d+ s|Connection timed out|Socket closed)\. "
        r"Connecting again",
        cut[what].log,
    )
    assert "Connected again" in cut[what].log


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["wait", "submit", "submit_large"])
def test_nothing_runs_twice_whose_answer_got_lost(cut, what):
    cut[what].told()
    assert cut[what].runs == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_left_of_a_call_to_a_host_that_vanished(cut):
    cut["forsake"].await_ready("forsaken")
    cut["forsake"].go()
    told = cut["forsake"].told()
    assert "no sign of life" in told["error"] or "timed out" in told["error"]
    assert (told["users"], told["child"]) == (0, "RUNNING")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_left_on_the_head_of_a_host_that_vanished(cut):
    assert Path(cut["pause"].folder, "connections").read_text() == ""
