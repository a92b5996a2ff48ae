"""Classes of the DAG's folder in two Airflow tasks, which are two processes, and on the cluster between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkpointing import connection_of
from tests.conftest import new_uri
from tests.ray_head import RayHead

FOLDER = Path(__file__).parent / "dag_folder"
VALUES = ("list", "pipeline", "frame", "shapes", "late", "late_cube")
# To a task on the cluster: as what a Ray task returned, by the hook, from a checkpoint, by the XCom backend. To a
# process of Airflow's: by the hook, by the XCom backend, from a checkpoint.
WAYS = ("returned", "put", "saved", "pushed", "fetched", "pulled", "loaded")
# It takes a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["gateway", "client", "driver"])
def seen(request: pytest.FixtureRequest, head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the two tasks have seen."""
    checkpoints = f"file://{tmp_path_factory.mktemp('checkpoints')}"
    run_id = new_uri("any").run_id
    connection = connection_of(head, request.param, checkpoint_path=checkpoints)
    environment = {
        **os.environ,
        "AIRFLOW_CONN_RAY_TYPES": connection,
        "AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID": "ray_types",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    seen: dict[str, Any] = {}
    for step in ("produce", "consume"):
        command = [sys.executable, str(FOLDER / "steps.py"), step, "ray_types", run_id, checkpoints]
        finished = subprocess.run(
            command, input=json.dumps(seen), env=environment, stdout=subprocess.PIPE, text=True, timeout=200, check=True
        )
        seen |= json.loads(finished.stdout.splitlines()[-1])
    return seen


@pytest.mark.parametrize(
    ("way", "value"),
    [(way, value) for way in WAYS for value in VALUES if (value, way) not in {("list", "pushed"), ("list", "pulled")}],
)
def test_types_of_a_value_are_those_of_the_next_task(seen, way, value):
    assert [what for what, holds in seen[f"{way} {value}"].items() if not holds] == []


def test_class_attribute_stays_on_a_worker_that_unpickles_its_class_again(seen):
    assert seen["counted there"] == 7


def test_class_attribute_stays_in_the_process_that_gets_an_object(seen):
    assert seen["counted here"] == 7


def test_two_classes_of_one_name_stay_two(seen):
    assert seen["two of one name"] == [True, 1, 2]
