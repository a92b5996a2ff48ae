"""What is looked at after a process was hit at a moment of two tasks, one of which reads what the other made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.faults.cases import Case, Told
from tests.faults.chain import Chain
from tests.faults.rig import Rig, run_with_fault
from tests.faults.task import expected


def check(rig: Rig, case: Case, folder: Path, measured: Callable[[Told, float], None]) -> None:
    """Hit a process, and see that the rules hold all the same."""
    rig.renew()
    if case.victim == "node":
        rig.add_node()

    def strike(chain: Chain) -> None:
        if case.signal == "SIGKILL":
            rig.kill(case.victim, chain)
        else:
            rig.stop(case.victim, chain, case.stopped_seconds, case.moment)

    outcome, seconds = run_with_fault(rig, case.way, case.moment, strike, folder, **case.options)
    assert outcome.returned == (None if case.error else expected()), outcome.log
    assert case.error in outcome.log
    assert re.search(case.log, outcome.log), outcome.log
    hit = "use" if case.moment == "use" else "make"
    begun = {task_id: runs for task_id, runs in outcome.runs.items() if case.once or task_id != hit}
    assert begun == ({"make": 1, "use": 0} if case.error else dict.fromkeys(begun, 1)), outcome.log
    assert outcome.runs["make"] >= 1
    measured(case.told, seconds)
