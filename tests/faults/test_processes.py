"""Processes that are killed or stand still at each moment of two tasks, one of which reads what the other made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.cases import BRIEF, KILLED, OF_CLIENT, OTHER_WAYS, STOPPED, Case, params
from tests.faults.chain import Chain
from tests.faults.rig import Rig, run_with_fault


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", params([*KILLED, *BRIEF, *STOPPED, *OTHER_WAYS, *OF_CLIENT]))
def test_process_that_is_hit_costs_no_value_and_no_work_that_was_done(
    rig: Rig, case: Case, tmp_path: Path, measured: Callable[..., None]
) -> None:
    if case.victim == "node":
        rig.add_node()

    def strike(chain: Chain) -> None:
        if case.signal == "SIGKILL":
            rig.kill(case.victim, chain)
        else:
            rig.stop(case.victim, chain, case.stopped_seconds, case.moment)

    try:
        _, outcome, seconds = run_with_fault(rig, case.way, case.moment, strike, tmp_path, **case.options)
    finally:
        rig.lose_node()
    assert outcome.returned == (None if case.error else rig.expected), outcome.log
    assert case.error in outcome.log
    assert re.search(case.log, outcome.log), outcome.log
    hit = "use" if case.moment == "use" else "make"
    begun = {task_id: runs for task_id, runs in outcome.runs.items() if case.once or task_id != hit}
    assert begun == ({"make": 1, "use": 0} if case.error else dict.fromkeys(begun, 1)), outcome.log
    assert outcome.runs["make"] >= 1
    measured(case.fault, case.moment, case.happens, seconds)
