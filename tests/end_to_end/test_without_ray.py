"""DAG runs of each kind leave Ray alone in Airflow's processes, where it is installed and where it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ray_head import RayHead
from tests.without_ray import python_without_ray, told

SCRIPT = str(Path(__file__).parent / "run_of_kind.py")
SUMS = {
    "decorated": 45,
    "several_outputs": 35,
    "mapped": 27,
    "deferred": 45,
    "sensors": 45,
    "released": 0,
    "searched": 3,
    "checkpointed": 45,
    "read_by_hook": 19_999_900_000,
}
MORE_THAN_CALLS = ["searched", "checkpointed", "read_by_hook"]
BACKEND = {
    "AIRFLOW__CORE__XCOM_BACKEND": "airflow_ray.xcom.RayXComBackend",
    "AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID": "ray_gateway",
}

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> str:
    return python_without_ray(tmp_path_factory.mktemp("without_ray"))


def test_dag_run_needs_no_ray(head: RayHead, without_ray, tmp_path):
    told_of = told(without_ray, SCRIPT, str(tmp_path), "decorated")
    assert told_of["decorated"] == {"state": "success", "sum": 45, "ray": False}


@pytest.fixture(scope="module")
def without(head: RayHead, without_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process without Ray tells of runs that do more than call."""
    return told(without_ray, SCRIPT, str(tmp_path_factory.mktemp("without")), *MORE_THAN_CALLS)


@pytest.fixture(scope="module")
def beside(head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process that has Ray tells of runs of all kinds, and of checks."""
    return told(sys.executable, SCRIPT, str(tmp_path_factory.mktemp("beside")), *SUMS, "checks")


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_THAN_CALLS)
def test_dag_run_of_more_than_calls_needs_no_ray(without, kind):
    assert without[kind] == {"state": "success", "sum": SUMS[kind], "ray": False}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUMS)
def test_dag_run_leaves_ray_alone(beside, kind):
    assert beside[kind] == {"state": "success", "sum": SUMS[kind], "ray": False}


@pytest.mark.slow
def test_button_doctor_and_command_line_leave_ray_alone(beside):
    assert beside["checks"] == {"state": "checked", "ray": False}


@pytest.mark.slow
def test_plain_tasks_with_the_backend_leave_ray_alone(head: RayHead, tmp_path):
    told_of = told(sys.executable, SCRIPT, str(tmp_path), "plain_tasks", **BACKEND)
    assert told_of["plain_tasks"] == {"state": "success", "sum": 90, "ray": False}
