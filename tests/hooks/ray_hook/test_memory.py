"""A callable that fills the memory of its node: Ray's memory monitor ends it."""

from __future__ import annotations

import time
import uuid

import psutil
import pytest

from airflow_ray.exceptions import RayOutOfMemoryError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.python import RayPythonOperator
from tests.conftest import new_uri
from tests.dag_runs import context_of
from tests.ray_head import RayHead

ROOM_BYTES = 4_000_000_000


@pytest.fixture(scope="module")
def hook():
    """A hook of a head that takes its node for full at 4 GB more than is used now."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM_BYTES) / memory.total
    head = RayHead(
        RAY_memory_usage_threshold=str(threshold),
        RAY_memory_monitor_refresh_ms="100",
        # How much Ray frees at once: by default more than this room, and so everything that runs.
        RAY_max_kill_memory_buffer_bytes="100000000",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_SMALL", head.client_uri)
        with RayHook("ray_small").connect() as hook:
            yield hook
    head.stop()


def fill_memory():
    import time

    chunks = []
    while True:
        chunks.append(b"x" * 50_000_000)
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("max_retries", [0, 1])
def test_callable_that_fills_the_memory_fails_and_the_next_task_works(hook, max_retries):
    uri = new_uri("ray_small")
    hook.submit(fill_memory, uri=uri, max_retries=max_retries)
    with pytest.raises(RayOutOfMemoryError, match="memory=<bytes>"):
        hook.wait(uri)
    hook.submit(lambda: "well", uri=uri)
    hook.wait(uri)
    assert hook.get(uri) == "well"


def fill_memory_unless_reserved(wanted):
    import ray

    if ray.get_runtime_context().get_assigned_resources()["memory"] < wanted:
        fill_memory()
    return "well"


def hold_memory(size, started):
    import pathlib
    import time

    data = b"x" * size
    pathlib.Path(started).touch()
    time.sleep(600)
    return len(data)


@pytest.mark.slow
@pytest.mark.parametrize("max_retries", [0, 1])
def test_lack_of_memory_tells_the_node_what_was_asked_and_who_else_was_there(hook, max_retries, tmp_path):
    neighbour, uri = new_uri("ray_small", "neighbour"), new_uri("ray_small")
    hook.submit(hold_memory, 300_000_000, str(tmp_path / "started"), uri=neighbour, max_retries=-1)
    while not (tmp_path / "started").exists():
        time.sleep(0.1)
    hook.submit(fill_memory, uri=uri, max_retries=max_retries, memory=1024**3)
    try:
        with pytest.raises(RayOutOfMemoryError) as raised:
            hook.wait(uri)
    finally:
        hook.cancel(neighbour)
    told = hook.describe(uri)["error"]
    assert neighbour.record_id in [each["record_id"] for each in told["works"]]
    assert f"its node {told['node']} ran out of memory" in str(raised.value)
    assert "The task had reserved 1 GiB" in str(raised.value)
    other = f"task 'neighbour' of DAG 'tests' in run {neighbour.run_id!r}, which had reserved no memory"
    assert other in str(raised.value)
    # Where Ray itself tries again, it tells nothing of the starts before.
    if not max_retries:
        assert told["used"] > 500_000_000
        assert told["node_has"] > told["node_used"] > ROOM_BYTES


@pytest.mark.slow
def test_next_try_reserves_the_next_amount_of_memory(hook):
    dag_id, enough = uuid.uuid4().hex, 200_000_000
    operator = RayPythonOperator(
        task_id="fill",
        python_callable=fill_memory_unless_reserved,
        op_args=[enough],
        ray_conn_id="ray_small",
        memory=[enough // 2, str(enough)],
        max_retries=0,
        retries=1,
        result="value",
    )
    with pytest.raises(RayOutOfMemoryError):
        operator.execute(context_of(dag_id, try_number=1, max_tries=1))
    assert operator.execute(context_of(dag_id, try_number=2, max_tries=1)) == "well"
