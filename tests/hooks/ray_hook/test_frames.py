"""Tables of each kind, from one process of the operating system to another."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import pytest

from airflow_ray.hooks.ray import RayHook
from tests.checkpointing import connection_of
from tests.dags.helpers.frame_kinds import KINDS, MAKERS, ROWS, TYPES, expected
from tests.modin import with_reason

# A process that is no part of the cluster cannot make these, and gets them as frames of pandas.
OF_A_CLUSTER = [kind for kind in ("modin", "dataset", "matrix") if kind in MAKERS]
PLAIN = [kind for kind in MAKERS if kind not in ("modin", "dataset", "matrix")]
each_kind = pytest.mark.parametrize("kind", with_reason(KINDS))


def in_own_process(step: str, conn_id: str, run_id: str, *kinds: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.dags.helpers.frame_kinds", step, conn_id, run_id, *(kinds or MAKERS)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def run_id():
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def made(head, run_id):
    """The descriptions of the tables that Ray tasks of one process have made."""
    return in_own_process("make", "ray_client", run_id)


@pytest.fixture(scope="module")
def used(made, run_id):
    """What Ray tasks of another process saw of them."""
    return in_own_process("use", "ray_client", run_id)


@each_kind
def test_table_is_described(made, kind):
    description = made[kind]["return_value"]
    assert (description["type"], description["shape"]) == (TYPES[kind], [ROWS, 2])
    assert description["bytes"] > 8 * ROWS


@each_kind
def test_table_goes_from_ray_task_to_ray_task(used, kind):
    assert used[kind] == ["store", *expected(kind)]


@pytest.fixture(scope="module")
def put_by_driver(head):
    """The run of tables that a driver has put and has then ended."""
    run_id = uuid.uuid4().hex
    in_own_process("put", "ray_driver", run_id, *OF_A_CLUSTER)
    return run_id


@pytest.fixture(scope="module")
def used_of_driver(put_by_driver):
    return in_own_process("use", "ray_driver", put_by_driver, *OF_A_CLUSTER)


@pytest.fixture(scope="module")
def got_by_driver(put_by_driver):
    return in_own_process("get", "ray_driver", put_by_driver, *OF_A_CLUSTER)


@pytest.mark.slow
@pytest.mark.parametrize("kind", with_reason(["modin", "dataset", "matrix"]))
def test_table_of_a_cluster_that_a_driver_has_put_goes_to_a_ray_task(used_of_driver, kind):
    assert used_of_driver[kind] == ["store", *expected(kind)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", with_reason(["modin", "dataset", "matrix"]))
def test_table_of_a_cluster_that_a_driver_has_put_is_got_by_another(got_by_driver, kind):
    assert got_by_driver[kind] == expected(kind)


@pytest.fixture(scope="module")
def put_by_client(head):
    """The run of tables that a Ray Client has put and has then ended."""
    run_id = uuid.uuid4().hex
    in_own_process("put", "ray_client", run_id, *PLAIN)
    return run_id


@pytest.fixture(scope="module")
def got_by_client(made, put_by_client, run_id):
    of_tasks = in_own_process("get", "ray_client", run_id, *(kind for kind in OF_A_CLUSTER if kind != "matrix"))
    return of_tasks | in_own_process("get", "ray_client", put_by_client, *PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLAIN)
def test_table_that_a_client_has_put_is_got_by_another(got_by_client, kind):
    assert got_by_client[kind] == expected(kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", with_reason(["modin", "dataset"]))
def test_table_of_a_cluster_is_got_by_a_client_as_one_of_pandas(got_by_client, kind):
    assert got_by_client[kind] == expected("pandas")


@pytest.fixture(scope="module")
def restored(head, tmp_path_factory):
    """What Ray tasks of one process saw of tables whose objects were gone, with a checkpoint by another."""
    run_id = uuid.uuid4().hex
    path = f"file://{tmp_path_factory.mktemp('checkpoints')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_KEEPING", connection_of(head, "driver", checkpoint_path=path))
        in_own_process("checkpoint", "ray_keeping", run_id)
        RayHook("ray_keeping").release(dag_id="frames", run_id=run_id)
        return in_own_process("use", "ray_keeping", run_id)


@pytest.mark.slow
@each_kind
def test_table_is_restored_from_its_checkpoint(restored, kind):
    assert restored[kind] == ["checkpoint", *expected(kind)]
