"""What the tests of faults share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from tests.faults.rig import Rig

# Where `make faults` collects what they have measured.
RESULTS = "FAULTS_RESULTS"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, str, str, float], None]:
    """Note a fault, its moment, what happens, and the seconds it cost, for the table of faults."""

    def note(fault: str, moment: str, happens: str, seconds: float) -> None:
        if path := os.environ.get(RESULTS):
            row = {"fault": fault, "moment": moment, "happens": happens, "seconds": round(seconds, 1)}
            with open(path, "a") as file:
                file.write(json.dumps({**row, "test": request.node.nodeid}) + "\n")

    return note
