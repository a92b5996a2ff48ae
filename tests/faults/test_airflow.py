"""Airflow's own processes and its database's connections, under a real scheduler with PostgreSQL."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import await_file
from tests.faults.cases import Told
from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parents[1] / "dags"
STOPPED_SECONDS = 30.0
END_SECONDS = 400.0


@dataclass(frozen=True)
class Case:
    """A fault that hits a part of Airflow.

    :param victim: ``task``, ``scheduler``, ``triggerer`` or ``database``, of which all connections are cut.
    :param signal: SIGKILL, or SIGSTOP for half a minute.
    :param moment: ``call``, or ``result``: the work ends just then.
    :param dag_id: of the DAG whose task waits for the work in its own process, or in the triggerer.
    """

    victim: str
    signal: str
    moment: str
    dag_id: str
    happens: str

    @property
    def id(self) -> str:
        return f"{self.victim}-{self.signal}-{self.moment}-{self.dag_id}"

    @property
    def told(self) -> Told:
        return Told(self._fault, self.moment, self.happens)

    @property
    def _fault(self) -> str:
        waits = "; the task is deferred" if self.dag_id == "triggerer_waits" else ""
        if self.victim == "database":
            return f"All connections of Airflow's database cut{waits}"
        what = "killed" if self.signal == "SIGKILL" else f"stopped for {STOPPED_SECONDS:g} s"
        name = {"task": "Process of the Airflow task", "scheduler": "Scheduler", "triggerer": "Triggerer"}[self.victim]
        return f"{name} {what}{waits}"


_NOTHING = "The work goes on, and the task ends as if nothing had been."
_ANOTHER = "Another takes over; the work goes on, and the task ends with its result."
CASES = [
    Case(victim, sign, moment, dag_id, _ANOTHER if sign == "SIGKILL" else _NOTHING)
    for victim, sign, dag_id in (
        ("scheduler", "SIGKILL", "worker_waits"),
        ("scheduler", "SIGKILL", "triggerer_waits"),
        ("scheduler", "SIGSTOP", "worker_waits"),
        ("scheduler", "SIGSTOP", "triggerer_waits"),
        ("triggerer", "SIGKILL", "triggerer_waits"),
        ("triggerer", "SIGSTOP", "triggerer_waits"),
        ("database", "cut", "worker_waits"),
        ("database", "cut", "triggerer_waits"),
        ("task", "SIGSTOP", "worker_waits"),
    )
    for moment in ("call", "result")
]


class Surroundings:
    """An Airflow with its database."""

    def __init__(self, airflow: StandaloneAirflow, database: PostgresServer) -> None:
        self.airflow = airflow
        self._database = database

    def strike(self, case: Case, pid: int | None) -> None:
        if case.victim == "database":
            assert self._database.cut() > 0
        elif case.signal == "SIGKILL":
            {"scheduler": self.airflow.kill_scheduler, "triggerer": self.airflow.kill_triggerer}[case.victim]()
        else:
            self._stop(case.victim, pid)

    def _stop(self, victim: str, pid: int | None) -> None:
        if victim == "task":
            assert pid is not None
            victims = [psutil.Process(pid)]
        else:
            victims = self.airflow.processes(f"airflow {victim}")
        assert victims, f"There is no {victim}"
        try:
            for each in victims:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_SECONDS)
        finally:
            for each in victims:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("airflow")
    shutil.copytree(DAGS, folder / "dags")
    head = RayHead()
    try:
        with PostgresServer() as database:
            environment = {
                **database.environment,
                "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
                "AIRFLOW__CORE__PARALLELISM": "4",
                # Another one takes over sooner.
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
                "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            }
            with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
                yield Surroundings(airflow, database)
    finally:
        head.stop()


class Run:
    """A run of a DAG with a task named work, which goes on until its gate is opened."""

    def __init__(self, airflow: StandaloneAirflow, dag_id: str, folder: Path) -> None:
        self._airflow, self._dag_id = airflow, dag_id
        self._starts, self._gate = folder / "starts", folder / "gate"
        folder.mkdir()
        self._run_id = airflow.trigger(dag_id, {"files": {"starts": str(self._starts), "gate": str(self._gate)}})

    @property
    def pid(self) -> int | None:
        pid: int | None = self._airflow.task_instances(self._dag_id, self._run_id)[0]["pid"]
        return pid

    def await_wait(self) -> None:
        """Wait until the work has begun, and whoever is to wait for it does so."""
        await_file(self._starts)
        text = "Waiting in the triggerer" if self._dag_id.startswith("triggerer") else "working"
        while text not in self.log():
            time.sleep(0.5)

    def open(self) -> None:
        self._gate.touch()

    def end(self) -> tuple[str, int]:
        """Return how it has ended, and how often the work has begun."""
        state = self._airflow.wait(self._dag_id, self._run_id, timeout=END_SECONDS)
        return state, len(self._starts.read_text().splitlines())

    def log(self) -> str:
        number = self._airflow.task_instances(self._dag_id, self._run_id)[0]["try_number"]
        return self._airflow.log(self._dag_id, self._run_id, "work", number)


@pytest.mark.only_faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_part_of_airflow_that_is_hit_costs_no_work(
    surroundings: Surroundings, case: Case, tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    usual = Run(surroundings.airflow, case.dag_id, tmp_path / "without")
    usual.await_wait()
    begun = time.monotonic()
    usual.open()
    assert usual.end() == ("success", 1)
    usually = time.monotonic() - begun
    run = Run(surroundings.airflow, case.dag_id, tmp_path / "with")
    run.await_wait()
    begun = time.monotonic()
    if case.moment == "result":
        run.open()
    surroundings.strike(case, run.pid)
    run.open()
    ended = run.end()
    assert ended == ("success", 1), run.log()
    measured(case.told, max(0.0, time.monotonic() - begun - usually))
