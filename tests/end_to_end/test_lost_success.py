"""Successes that Airflow has lost: a real Airflow, a real Ray head, SIGKILL and a heartbeat that stops."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import await_file
from tests.ray_head import RayHead
from tools.standalone import StandaloneAirflow

DAG_FILE = Path(__file__).parent.parent / "dags" / "lost_success.py"


@pytest.fixture(scope="module")
def airflow(head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    shutil.copy(DAG_FILE, folder / "dags")
    environment = {
        "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
        "AIRFLOW__CORE__PARALLELISM": "4",
        # A task whose heartbeat has stopped is given up sooner.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }
    with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
        yield airflow


class Work:
    """A run of one of the DAGs with a task named work, and the files that tell of it."""

    def __init__(self, airflow: StandaloneAirflow, dag_id: str, folder: Path) -> None:
        self._airflow, self._dag_id = airflow, dag_id
        self.files = {name: folder / name for name in ("starts", "stays", "gate", "leaves")}
        names = {name: str(path) for name, path in self.files.items()}
        self._run_id = airflow.trigger(dag_id, {"files": names})

    def clear(self) -> None:
        self._airflow.clear(self._dag_id, self._run_id, "work")

    def end(self) -> tuple[str, int, str]:
        """Return how the run has ended, with which try, and what the work has noted of its starts."""
        state = self._airflow.wait(self._dag_id, self._run_id, timeout=150)
        return state, self.try_number, self.files["starts"].read_text()

    @property
    def try_number(self) -> int:
        number: int = self._airflow.task_instances(self._dag_id, self._run_id)[0]["try_number"]
        return number

    def log(self) -> str:
        return self._airflow.log(self._dag_id, self._run_id, "work", self.try_number)


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", ["dies_after_its_work", "dies_after_its_deferred_work"])
def test_success_of_a_process_that_was_killed_before_it_told_is_taken_until_the_task_is_cleared(
    airflow, tmp_path, dag_id
):
    work = Work(airflow, dag_id, tmp_path)
    assert work.end() == ("success", 2, "line\n")
    assert "was made already, by an earlier try" in work.log()
    work.clear()
    assert work.end() == ("success", 3, "line\n" * 2)


@pytest.mark.slow
def test_success_that_comes_when_airflow_has_given_the_task_up_is_taken_by_the_retry(airflow, tmp_path):
    work = Work(airflow, "is_given_up_after_its_work", tmp_path)
    first_try = psutil.Process(int(await_file(work.files["stays"])))
    supervisor = first_try.parent()
    # No heartbeat comes from it any more.
    supervisor.suspend()
    try:
        assert work.end() == ("success", 2, "line\n")
        work.files["gate"].touch()
        while not work.files["leaves"].exists():
            time.sleep(0.05)
    finally:
        supervisor.resume()
    # What it tells now, Airflow refuses.
    assert psutil.wait_procs([first_try], 60)[1] == []
    assert work.end() == ("success", 2, "line\n")
