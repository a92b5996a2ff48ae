"""DAG runs of each kind leave Ray alone in Airflow's processes, where it is installed and where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

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
BACKEND = {
    "AIRFLOW__CORE__XCOM_BACKEND": "airflow_ray.xcom.RayXComBackend",
    "AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID": "ray_gateway",
}

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> str:
    return python_without_ray(tmp_path_factory.mktemp("without_ray"))


def test_dag_run_needs_no_ray(head: RayHead, without_ray, tmp_path):
    assert told(without_ray, SCRIPT, "decorated", str(tmp_path)) == {"state": "success", "sum": 45, "ray": False}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["searched", "checkpointed", "read_by_hook"])
def test_dag_run_of_more_than_calls_needs_no_ray(head: RayHead, without_ray, kind, tmp_path):
    assert told(without_ray, SCRIPT, kind, str(tmp_path)) == {"state": "success", "sum": SUMS[kind], "ray": False}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUMS)
def test_dag_run_leaves_ray_alone(head: RayHead, kind, tmp_path):
    assert told(sys.executable, SCRIPT, kind, str(tmp_path)) == {"state": "success", "sum": SUMS[kind], "ray": False}


@pytest.mark.slow
def test_plain_tasks_with_the_backend_leave_ray_alone(head: RayHead, tmp_path):
    assert told(sys.executable, SCRIPT, "plain_tasks", str(tmp_path), **BACKEND) == {
        "state": "success",
        "sum": 90,
        "ray": False,
    }


@pytest.mark.slow
def test_button_doctor_and_command_line_leave_ray_alone(head: RayHead, tmp_path):
    assert told(sys.executable, SCRIPT, "checks", str(tmp_path)) == {"state": "checked", "ray": False}
