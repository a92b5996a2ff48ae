"""Many deferred tasks at a time under a real scheduler, none of which it may lose."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parent.parent / "dags"
TASKS = 12
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


@pytest.fixture(scope="module")
def airflow(head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    shutil.copy(DAGS / "waiting.py", folder / "dags")
    with PostgresServer() as server:
        environment = {
            **server.environment,
            "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
            "AIRFLOW__CORE__PARALLELISM": "16",
        }
        with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
            yield airflow


def outcomes(airflow: StandaloneAirflow, seconds: float) -> Counter[tuple[str, int]]:
    """Run work of that many seconds in many tasks, and return how many ended in which state after which try."""
    run_id = airflow.trigger("many_end_soon", {"number": TASKS, "seconds": seconds})
    airflow.wait("many_end_soon", run_id, timeout=800)
    instances = airflow.task_instances("many_end_soon", run_id)
    return Counter((each["state"], each["try_number"]) for each in instances if each["task_id"] == "double")


def test_scheduler_loses_no_task_whose_work_ends_soon_after_its_deferral(airflow):
    assert outcomes(airflow, seconds=12) == {("success", 1): TASKS}
