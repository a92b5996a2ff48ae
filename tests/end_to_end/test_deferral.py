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
TASKS = 24
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

    def of_tasks(self) -> list[str]:
        return [each for lines in self._all() if any(".ti.start" in line for line in lines) for each in lines]

    def of_triggers(self) -> list[str]:
        """What the process of the triggerer has sent that runs triggers, and nothing of Airflow's own."""
        return [each for lines in self._all() if all(".ray." in line for line in lines) for each in lines]

    def _all(self) -> list[list[str]]:
        return [list(lines) for lines in list(self._by_process.values())]

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


def values_of(lines: list[str], name: str) -> list[float]:
    return [
        float(value) for sent, _, value in (line.partition("|")[0].partition(":") for line in lines) if sent == name
    ]


def outcomes(airflow: StandaloneAirflow, seconds: float) -> Counter[tuple[str, int]]:
    """Run work of that many seconds in many tasks, and return how many ended in which state after which try."""
    run_id = airflow.trigger("many_end_soon", {"number": TASKS, "seconds": seconds})
    airflow.wait("many_end_soon", run_id, timeout=800)
    instances = airflow.task_instances("many_end_soon", run_id)
    return Counter((each["state"], each["try_number"]) for each in instances if each["task_id"] == "double")


def test_scheduler_loses_no_task_whose_work_ends_soon_after_its_deferral(airflow):
    assert outcomes(airflow, seconds=12) == {("success", 1): TASKS}


@pytest.mark.skipif(not importlib.util.find_spec("statsd"), reason="the client of StatsD is not installed")
def test_task_and_triggerer_tell_metrics_of_the_work_that_they_wait_for(airflow, metrics, tmp_path):
    files = {name: str(tmp_path / name) for name in ("starts", "gate")}
    run_id = airflow.trigger("triggerer_waits", {"files": files})
    while 1 not in values_of(metrics.of_triggers(), "airflow.ray.running.ray_default"):
        time.sleep(0.5)
    Path(files["gate"]).touch()
    assert airflow.wait("triggerer_waits", run_id, timeout=300) == "success"
    # They are there before the task tells Airflow of its end.
    assert values_of(metrics.of_tasks(), "airflow.ray.queued_duration.ray_default")
    assert values_of(metrics.of_tasks(), "airflow.ray.bytes_held.ray_default")
