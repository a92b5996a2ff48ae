"""Processes that are killed at each moment of two tasks, one of which reads what the other made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.cases import KILLED, OF_CLIENT, OTHER_WAYS, Case, Told, params
from tests.faults.checks import check
from tests.faults.rig import Rig


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("case", params([*KILLED, *OTHER_WAYS, *OF_CLIENT]))
def test_process_that_is_killed_costs_no_value_and_no_work_that_was_done(
    rig: Rig, case: Case, tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    check(rig, case, tmp_path, measured)
