"""Tasks in a loop of Airflow 3.4, told by what that release gives them: no earlier one has loops."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest

from airflow_ray._compat import region_of
from airflow_ray.operators.python import RayPythonOperator

REGION = UUID("0123456789abcdef0123456789abcdef")
LOOP = SimpleNamespace(index=2, max_iterations=5)


def instance(**region: object) -> SimpleNamespace:
    return SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=None, **region)


@pytest.mark.parametrize(
    ("given", "region"),
    [
        ({}, ""),
        ({"region_id": None, "region_index": None}, ""),
        ({"region_id": UUID(int=0), "region_index": -1}, ""),
        ({"region_id": REGION, "region_index": 2}, f"{REGION.hex}.2"),
    ],
    ids=["before 3.4", "none", "top level", "in a loop"],
)
def test_region_is_that_of_airflow(given, region):
    assert region_of(instance(**given)) == region


@pytest.mark.parametrize(("loop", "region"), [(LOOP, f"{REGION.hex}.2"), (None, "")], ids=["loop", "mapped"])
def test_only_in_a_loop_the_name_of_a_task_holds_the_region(loop, region):
    operator = RayPythonOperator(task_id="t", python_callable=print)
    ti = instance(region_id=REGION, region_index=2)
    assert operator._uri_of({"ti": ti, "loop": loop}).region == region


def test_callable_that_names_the_loop_gets_its_plain_parts():
    def step(*, loop):
        return loop.index

    operator = RayPythonOperator(task_id="t", python_callable=step)
    given = operator._context_arguments({"loop": LOOP}, [], {})
    assert vars(given["loop"]) == {"index": 2, "max_iterations": 5}
