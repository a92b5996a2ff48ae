"""Two tasks one after the other, each try a process of its own, and a fault at one moment between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.faults.task import Order

ROOT = Path(__file__).parents[2]
SCRIPT, ASKING = (str(Path(__file__).with_name(name)) for name in ("task.py", "asking.py"))
TRIES = 3
# In which one process of a task ends on a busy machine, also where it waits for a cluster that is started anew.
END_SECONDS = 600.0
# In which nothing of the work is left.
LEFT_SECONDS = 300.0

#: The moments in their order, with the task whose process is there then; between the two there is none.
MOMENTS = {
    "before": "make",
    "submit": "make",
    "call": "make",
    "checkpoint": "make",
    "result": "make",
    "done": None,
    "use": "use",
}


class Outcome(NamedTuple):
    """What came of a chain.

    :param returned: by the second task; None where it has failed.
    :param log: of all tries.
    :param runs: how often the callable of each task has begun.
    :param tries: of each task.
    :param ended: when it ended, in seconds since 1970.
    :param struck: when the fault came, likewise.
    """

    returned: dict[str, str] | None
    log: str
    runs: dict[str, int]
    tries: dict[str, int]
    ended: float
    struck: float


class Chain:
    """A run of the two tasks.

    :param folder: for its files.
    :param environment: of the processes of its tasks.
    :param prefix: what each of their commands begins with, such as what makes it run on another host.
    :param options: of the first task's operator.
    """

    def __init__(self, folder: Path, environment: dict[str, str], prefix: Sequence[str] = (), **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.run_id = f"manual__{uuid.uuid4()}"
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._prefix = prefix
        self._options = options

    def run(
        self, moment: str | None, strike: Callable[[], None], is_there: Callable[[], bool] | None = None
    ) -> Outcome:
        """Run both tasks, with a fault at a moment, and return what came of it.

        :param moment: None for no fault.
        :param strike: brings the fault, and opens the gate of its moment when it wants the work to go on.
        :param is_there: whether the moment is there, where no process of the chain knows; it lets the first callable
            end.
        """
        for each in MOMENTS.keys() - {moment, "call" if is_there else moment}:
            self.open(each)
        try:
            return self._run(moment, strike, is_there)
        finally:
            self.stop()

    def _run(self, moment: str | None, strike: Callable[[], None], is_there: Callable[[], bool] | None) -> Outcome:
        struck, tries, returned, lines = 0.0, {"make": 0, "use": 0}, None, []
        for task_id in tries:
            for number in range(1, TRIES + 1):
                tries[task_id] = number
                log = self.folder / f"{task_id}-{number}.log"
                self._start(task_id, number, log)
                if not struck and moment is not None and MOMENTS[moment] == task_id:
                    self._await(is_there or Path(self.folder, f"{moment}.ready").exists, log)
                    struck = time.time()
                    strike()
                    self.open(moment)
                code = self._end(log)
                lines.append(log.read_text())
                if code == 0:
                    break
            else:
                break
            if task_id == "make" and moment == "done":
                struck = time.time()
                strike()
        else:
            returned = json.loads(lines[-1].splitlines()[-1])
        runs = {task_id: len(self.pids(task_id)) for task_id in tries}
        return Outcome(returned, "\n".join(lines), runs, tries, time.time(), struck)

    def open(self, moment: str) -> None:
        """Let the moment pass."""
        Path(self.folder, f"{moment}.go").touch()

    def pids(self, name: str) -> list[int]:
        """Return the processes in which a callable has begun."""
        path = Path(self.folder, f"{name}.ledger")
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self) -> None:
        """End what is left of its processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def left_running(self) -> list[str]:
        """Free what the chain has made, and return what is left of its work: records under way, and processes."""
        # In a process of its own: the way in may lead there from another host only.
        command = [*self._prefix, sys.executable, ASKING, self.run_id]
        asked = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=END_SECONDS)
        assert asked.returncode == 0, asked.stderr
        records: list[str] = json.loads(asked.stdout.splitlines()[-1])
        deadline = time.monotonic() + LEFT_SECONDS
        while (processes := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return records + processes

    def _processes(self) -> list[str]:
        """Return the processes in which something of the work runs."""
        child = Path(self.folder, "child")
        pids = [*self.pids("make"), *self.pids("use"), *([int(child.read_text())] if child.exists() else [])]
        left = []
        for pid in set(pids):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                command = " ".join(process.cmdline())
                # A worker that has nothing to do may stay, and what is dead need not be taken away.
                if process.status() != psutil.STATUS_ZOMBIE and "ray::IDLE" not in command:
                    left.append(f"{pid}: {command}")
        return left

    def seconds_after(self, outcome: Outcome) -> dict[str, float]:
        """Return what the chain has taken from each moment to its end."""
        reached = {path.stem: path.stat().st_mtime for path in self.folder.glob("*.ready")}
        # Both are between two that are known.
        reached |= {"checkpoint": reached["call"], "done": reached["result"]}
        return {moment: outcome.ended - reached[moment] for moment in MOMENTS}

    def _start(self, task_id: str, number: int, log: Path) -> None:
        options = self._options if task_id == "make" else {}
        order = Order(task_id, self.run_id, str(self.folder), number, options)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, SCRIPT, order.as_argument()],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _await(self, is_there: Callable[[], bool], log: Path) -> None:
        deadline = time.monotonic() + END_SECONDS
        while not is_there():
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"The moment does not come:\n{log.read_text()}"
            time.sleep(0.02)

    def _end(self, log: Path) -> int:
        assert self.process is not None
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"It hangs:\n{log.read_text()}") from None
