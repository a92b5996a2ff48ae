"""Work of the DAGs in ``tests/dags/waiting.py``, on a real Airflow."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tools.standalone import StandaloneAirflow

END_SECONDS = 500.0


class Work:
    """A run of one of the DAGs with a task named work, which goes on until its gate is opened.

    :param folder: for the files that tell of it; it is made if there is none.
    """

    def __init__(self, airflow: StandaloneAirflow, dag_id: str, folder: Path) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        folder.mkdir(exist_ok=True)
        self._starts, self._gate = folder / "starts", folder / "gate"
        self.run_id = airflow.trigger(dag_id, {"files": {"starts": str(self._starts), "gate": str(self._gate)}})

    @property
    def pids(self) -> list[int]:
        """The processes on the cluster, one for each time that it has begun."""
        return [int(line) for line in self._starts.read_text().splitlines()] if self._starts.exists() else []

    @property
    def instance(self) -> dict[str, Any]:
        return self.airflow.task_instances(self.dag_id, self.run_id)[0]

    def await_start(self) -> None:
        while not self.pids:
            time.sleep(0.1)

    def begins(self) -> bool:
        """Whether it begins before its run has ended, as it may not where processes take long to start."""
        while not self.pids and self.instance["state"] not in ("skipped", "failed"):
            time.sleep(0.2)
        return bool(self.pids)

    def await_follower(self) -> None:
        """Wait until it has begun, and the triggerer, or whoever is to wait for it, does so."""
        self.await_start()
        text = "Waiting in the triggerer" if self.dag_id.startswith("triggerer") else "working"
        while text not in self.log():
            time.sleep(0.5)

    def await_end_of_process(self, number: int = -1) -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.pids[number]).wait()

    def open(self) -> None:
        self._gate.touch()

    def end(self, timeout: float = END_SECONDS) -> tuple[str, int]:
        """Return how the run has ended, and how often the work has begun."""
        return self.airflow.wait(self.dag_id, self.run_id, timeout), len(self.pids)

    def finish(self) -> None:
        """Open the gate, and see the run succeed."""
        self.open()
        state, _ = self.end()
        assert state == "success", self.log()

    def log(self) -> str:
        return self.airflow.log(self.dag_id, self.run_id, "work", self.instance["try_number"])
