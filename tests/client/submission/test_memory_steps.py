"""The amount of memory that a try reserves, out of a list."""

from __future__ import annotations

import pytest

from airflow_ray.client.submission.memory_steps import memory_for
from airflow_ray.exceptions import RayConfigurationError

THIRD_TRY = {"number": 3, "run": "run", "clearings": 0}
OUT_OF_MEMORY = {"kind": "out_of_memory"}


def record(memory=4, error=None, number=2, run="run"):
    task_try = {"number": number, "run": run, "clearings": 0}
    return {"state": "FAILED", "memory": memory, "error": error, "task_try": task_try}


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        pytest.param({"state": "LOST"}, 4, id="nothing"),
        pytest.param(record(4, OUT_OF_MEMORY), 8, id="out of memory"),
        pytest.param(record(8, OUT_OF_MEMORY), 16, id="out of memory again"),
        pytest.param(record(16, OUT_OF_MEMORY), 16, id="out of memory with the last"),
        pytest.param(record(8, {"kind": "callable"}), 8, id="failed"),
        pytest.param(record(8), 8, id="runs"),
        pytest.param(record(8, OUT_OF_MEMORY, run="other"), 4, id="cleared"),
        pytest.param(record(5, OUT_OF_MEMORY), 4, id="another list"),
        pytest.param({**record(4, OUT_OF_MEMORY), "task_try": None}, 4, id="of no task"),
    ],
)
def test_next_amount_comes_after_a_try_that_ran_out_of_memory_only(earlier, expected):
    assert memory_for(["4", 8, 16.0], earlier, THIRD_TRY) == expected


def test_first_try_reserves_the_first_amount_whatever_is_there():
    assert memory_for([4, 8], record(4, OUT_OF_MEMORY), {**THIRD_TRY, "number": 1}) == 4


@pytest.mark.parametrize("amounts", [[], ["much"], [-1]], ids=["none", "text", "negative"])
def test_list_without_amounts_is_refused(amounts):
    with pytest.raises(RayConfigurationError, match="memory"):
        memory_for(amounts, {}, THIRD_TRY)
