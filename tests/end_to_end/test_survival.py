"""Work that outlives Airflow's worker, triggerer and connections, and successes that Airflow has lost.

A real Airflow, a real head's gateway, SIGKILL and a heartbeat that stops.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_ray.object_uri import ObjectURI
from tests.conftest import await_file
from tests.gated_work import Work
from tests.ray_head import RayHead
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parent.parent / "dags"


@pytest.fixture(scope="module")
def airflow(
    head: RayHead, airflow_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    shutil.copytree(DAGS, folder / "dags")
    environment = {
        "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
        # Far fewer than the tasks that wait deferred: more processes that start at once would only hold up each other.
        "AIRFLOW__CORE__PARALLELISM": "4",
        # Another triggerer takes over sooner.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        # A task whose heartbeat has stopped is given up sooner.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        **airflow_database,
    }
    with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
        yield airflow


@pytest.mark.slow
def test_retry_goes_on_with_the_work_of_a_task_process_that_was_killed(airflow, tmp_path):
    work = Work(airflow, "worker_waits", tmp_path)
    work.await_start()
    os.kill(work.instance["pid"], signal.SIGKILL)
    while work.instance["try_number"] < 2:
        time.sleep(0.2)
    work.finish()
    assert (len(work.pids), work.instance["try_number"]) == (1, 2)
    # It may be done before the retry asks for it.
    assert "already, by an earlier try" in work.log()


@pytest.mark.slow
def test_clear_after_success_runs_again(airflow, tmp_path):
    work = Work(airflow, "worker_waits", tmp_path)
    work.finish()
    airflow.clear(work.dag_id, work.run_id, "work")
    work.finish()
    assert len(work.pids) == 2


MARKED = [("worker_waits", "success"), ("triggerer_waits", "failed"), ("triggerer_waits", "success")]
TOO_LONG = ["worker_waits_too_long", "triggerer_waits_too_long"]


@pytest.fixture(scope="module")
def to_be_marked(airflow: StandaloneAirflow, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Work]:
    """Runs that begin side by side, and go on until they are marked."""
    return {(dag_id, state): Work(airflow, dag_id, tmp_path_factory.mktemp(dag_id)) for dag_id, state in MARKED}


@pytest.fixture(scope="module", autouse=True)
def too_long(airflow: StandaloneAirflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    """Runs that go on until their timeout, which comes while the other tests go on."""
    return {dag_id: Work(airflow, dag_id, tmp_path_factory.mktemp(dag_id)) for dag_id in TOO_LONG}


@pytest.mark.slow
@pytest.mark.parametrize(("dag_id", "state"), MARKED)
def test_task_marked_by_a_person_stops_on_the_cluster(airflow, to_be_marked, dag_id, state):
    work = to_be_marked[dag_id, state]
    work.await_follower()
    assert psutil.pid_exists(work.pids[-1])
    airflow.set_state(work.dag_id, work.run_id, "work", state)
    work.await_end_of_process()


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", TOO_LONG)
def test_task_stops_on_the_cluster_at_dagrun_timeout(airflow, too_long, tmp_path_factory, dag_id):
    work = too_long[dag_id]
    while not work.begins():
        work = Work(airflow, dag_id, tmp_path_factory.mktemp("again"))
    assert airflow.wait(dag_id, work.run_id, timeout=500) == "failed"
    work.await_end_of_process()


@pytest.mark.slow
def test_task_cleared_while_deferred_stops_and_runs_anew(airflow, tmp_path):
    work = Work(airflow, "triggerer_waits", tmp_path)
    work.await_follower()
    airflow.clear(work.dag_id, work.run_id, "work")
    while len(work.pids) < 2:
        time.sleep(0.2)
    work.await_end_of_process(0)
    work.finish()


@pytest.mark.slow
def test_triggerer_that_stood_still_leaves_alone_the_work_that_another_waits_for(airflow, tmp_path):
    work = Work(airflow, "triggerer_waits", tmp_path)
    work.await_follower()
    stopped = airflow.processes("triggerer")
    for each in stopped:
        each.suspend()
    airflow.start_more("triggerer")
    while work.log().count("Waiting in the triggerer") < 2:
        time.sleep(0.5)
    for each in stopped:
        each.resume()
    while "trigger completed" not in work.log():
        time.sleep(0.5)
    work.finish()
    assert (len(work.pids), work.instance["try_number"]) == (1, 1)


@pytest.mark.slow
def test_deferred_work_goes_on_when_triggerer_and_gateway_are_killed(airflow, head, tmp_path):
    work = Work(airflow, "triggerer_waits", tmp_path)
    work.await_follower()
    airflow.kill_triggerer()
    head.kill_gateway()
    work.finish()
    assert len(work.pids) == 1


@pytest.mark.slow
def test_triggerer_that_is_killed_costs_no_line_of_any_task_and_repeats_none(airflow, tmp_path):
    gate = tmp_path / "gate"
    run_id = airflow.trigger("quiet_beside_loud", {"gate": str(gate)})

    def numbers(task_id: str) -> list[int]:
        log = airflow.log("quiet_beside_loud", run_id, task_id)
        return sorted(int(number) for number in re.findall(rf"^{task_id} (\d+)$", log, re.MULTILINE))

    def states() -> set[str]:
        return {each["state"] for each in airflow.task_instances("quiet_beside_loud", run_id)}

    while states() != {"deferred"}:
        time.sleep(0.5)
    gate.touch()
    # In the middle of the other half.
    while len(numbers("loud")) < 16_000:
        time.sleep(0.5)
    airflow.kill_triggerer()
    assert airflow.wait("quiet_beside_loud", run_id, timeout=500) == "success"
    assert numbers("quiet") == list(range(60))
    assert numbers("loud") == list(range(30_000))


@pytest.mark.slow
def test_sensor_waits_for_the_object_of_another_dag(airflow):
    # The run that will make it does not exist yet.
    maker = "for_the_sensor"
    uri = ObjectURI("ray_default", "makes_for_another", maker, "make")
    run_id = airflow.trigger("waits_for_another", {"uri": str(uri)})
    airflow.trigger("makes_for_another", run_id=maker)
    assert airflow.wait("waits_for_another", run_id, timeout=500) == "success"


class EndingWork:
    """A run of one of the DAGs whose task named work ends by itself, and the files that tell of it."""

    def __init__(self, airflow: StandaloneAirflow, dag_id: str, folder: Path) -> None:
        self._airflow, self._dag_id = airflow, dag_id
        self.files = {name: folder / name for name in ("starts", "stays", "gate", "leaves")}
        names = {name: str(path) for name, path in self.files.items()}
        self._run_id = airflow.trigger(dag_id, {"files": names})

    def clear(self) -> None:
        self._airflow.clear(self._dag_id, self._run_id, "work")

    def end(self) -> tuple[str, int, str]:
        """Return how the run has ended, with which try, and what the work has noted of its starts."""
        state = self._airflow.wait(self._dag_id, self._run_id, timeout=500)
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
    work = EndingWork(airflow, dag_id, tmp_path)
    assert work.end() == ("success", 2, "line\n")
    assert "was made already, by an earlier try" in work.log()
    work.clear()
    assert work.end() == ("success", 3, "line\n" * 2)


@pytest.mark.slow
def test_success_that_comes_when_airflow_has_given_the_task_up_is_taken_by_the_retry(airflow, tmp_path):
    work = EndingWork(airflow, "is_given_up_after_its_work", tmp_path)
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
    assert psutil.wait_procs([first_try], 300)[1] == []
    assert work.end() == ("success", 2, "line\n")
