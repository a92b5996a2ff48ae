"""Many deferred tasks at a time under a real scheduler, none of which it may lose."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parent.parent / "dags"
TASKS = 12
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


class Metrics:
    """A server for StatsD, which keeps what each process has sent to it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._by_process: dict[int, list[str]] = defaultdict(list)
        threading.Thread(target=self._receive, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        settings = {"ON": "True", "HOST": "127.0.0.1", "PORT": str(self._socket.getsockname()[1])}
        return {f"AIRFLOW__METRICS__STATSD_{name}": value for name, value in settings.items()}

    def of_tasks(self, name: str) -> list[float]:
        """Wait for a metric of a process that runs a task, and return its values."""
        return self._values(name, of_tasks=True)

    def of_triggers(self, name: str) -> list[float]:
        """Wait for a metric of the process that runs triggers, and return its values: no other tells of Ray."""
        return self._values(name, of_tasks=False)

    def _values(self, name: str, of_tasks: bool) -> list[float]:
        while True:
            processes = [list(lines) for lines in list(self._by_process.values())]
            chosen = [lines for lines in processes if of_tasks == any(".ti.start" in line for line in lines)]
            sent = (line.partition("|")[0].partition(":") for lines in chosen for line in lines)
            if values := [float(value) for each, _, value in sent if each == name]:
                return values
            time.sleep(0.2)

    def _receive(self) -> None:
        while True:
            data, (_, port) = self._socket.recvfrom(65536)
            self._by_process[port].append(data.decode())


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def airflow(head: RayHead, metrics: Metrics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    shutil.copy(DAGS / "waiting.py", folder / "dags")
    with PostgresServer() as server:
        environment = {
            **server.environment,
            **metrics.environment,
            "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
            "AIRFLOW__CORE__PARALLELISM": "16",
        }
        with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
            yield airflow


def outcomes(airflow: StandaloneAirflow, seconds: float) -> Counter[tuple[str, int]]:
    """Run work of that many seconds in many tasks, and return how many ended in which state after which try."""
    run_id = airflow.trigger("many_end_soon", {"number": TASKS, "seconds": seconds})
    airflow.wait("many_end_soon", run_id, timeout=800)
    instances = airflow.task_instances("many_end_soon", run_id)
    return Counter((each["state"], each["try_number"]) for each in instances if each["task_id"] == "double")


@pytest.mark.skipif(not importlib.util.find_spec("statsd"), reason="the client of StatsD is not installed")
def test_task_and_triggerer_tell_metrics_of_the_work_that_they_wait_for(airflow, metrics, tmp_path):
    files = {name: str(tmp_path / name) for name in ("starts", "gate")}
    run_id = airflow.trigger("triggerer_waits", {"files": files})
    # The work runs for as long as there is no gate.
    while max(metrics.of_triggers("airflow.ray.running.ray_default")) < 1:
        time.sleep(0.5)
    Path(files["gate"]).touch()
    assert airflow.wait("triggerer_waits", run_id, timeout=500) == "success"
    assert len(metrics.of_tasks("airflow.ray.queued_duration.ray_default")) == 1
    assert metrics.of_tasks("airflow.ray.running.ray_default")


def test_scheduler_loses_no_task_whose_work_ends_soon_after_its_deferral(airflow):
    assert outcomes(airflow, seconds=12) == {("success", 1): TASKS}
