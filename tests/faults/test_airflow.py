"""Airflow's own processes and its database's connections, under a real scheduler with PostgreSQL."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from tests.faults.cases import Told
from tests.gated_work import Work
from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parents[1] / "dags"
STOPPED_SECONDS = 30.0
END_SECONDS = 900.0
SUPERVISION_SECONDS = 5.0


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


@contextmanager
def _supervised(airflow: StandaloneAirflow) -> Iterator[None]:
    """Start another scheduler or triggerer where one has ended, as what runs Airflow for a team does.

    Airflow's scheduler has been seen to end by itself after the connections of its database were cut.
    """
    over = Event()

    def supervise() -> None:
        while not over.wait(SUPERVISION_SECONDS):
            for part in ("scheduler", "triggerer"):
                if not airflow.processes(f"airflow {part}"):
                    airflow.start_more(part)

    supervisor = Thread(target=supervise)
    supervisor.start()
    try:
        yield
    finally:
        over.set()
        supervisor.join()


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
            with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow, _supervised(airflow):
                yield Surroundings(airflow, database)
    finally:
        head.stop()


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_part_of_airflow_that_is_hit_costs_no_work(
    surroundings: Surroundings, case: Case, tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    usual = Work(surroundings.airflow, case.dag_id, tmp_path / "without")
    usual.await_follower()
    begun = time.monotonic()
    usual.open()
    assert usual.end(END_SECONDS) == ("success", 1)
    usually = time.monotonic() - begun
    run = Work(surroundings.airflow, case.dag_id, tmp_path / "with")
    run.await_follower()
    begun = time.monotonic()
    if case.moment == "result":
        run.open()
    surroundings.strike(case, run.instance["pid"])
    run.open()
    ended = run.end(END_SECONDS)
    assert ended == ("success", 1), run.log()
    measured(case.told, max(0.0, time.monotonic() - begun - usually))
