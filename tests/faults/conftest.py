"""What the tests of faults share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from tests.faults.cases import Told
from tests.faults.rig import RESULTS, Rig


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[Told, float], None]:
    """Note the seconds that a fault has cost for the table of faults."""

    def note(told: Told, seconds: float) -> None:
        if path := os.environ.get(RESULTS):
            row = {**told._asdict(), "seconds": round(seconds, 1), "test": request.node.nodeid}
            with open(path, "a") as file:
                file.write(json.dumps(row) + "\n")

    return note
