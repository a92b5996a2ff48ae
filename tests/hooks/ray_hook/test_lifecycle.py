"""What the cluster holds, for how long, and how it is freed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import psutil
import pytest

from airflow_ray.exceptions import RayConfigurationError, RayObjectLostError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from tests.conftest import new_uri
from tests.dag_runs import context_of
from tests.dags.helpers.frame_kinds import TYPES
from tests.modin import needs_modin
from tests.ray_head import RayHead


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"a": range(rows), "b": 1.0})


def run(hook, uri, fn, *args, **options):
    hook.submit(fn, *args, uri=uri, **options)
    return hook.wait(uri)


def listed(hook, uri):
    return [each for each in hook.list_objects(uri.dag_id, uri.run_id) if each["uri"] == str(uri)]


def await_release(hook, uri):
    while hook.status(uri) != "LOST":
        time.sleep(0.1)


# Listing


def test_list_tells_what_an_object_is(hook, uri):
    record = run(hook, uri, make_frame, 100_000)
    (found,) = hook.list_objects(uri.dag_id, uri.run_id)
    known = {"state": "SUCCEEDED", "type": TYPES["pandas"], "rows": 100_000, "columns": 2}
    known |= {"uri": str(uri), "node": record["node"], "checkpoint": None, "spilled": False}
    assert {name: found[name] for name in known} == known
    assert found["bytes"] > 1_600_000
    assert 0 <= found["age"] < 60


def test_list_tells_of_work_that_has_no_output_yet(hook, uri, tmp_path):
    gate = tmp_path / "gate"

    def wait():
        while not gate.exists():
            time.sleep(0.05)

    hook.submit(wait, uri=uri)
    (found,) = listed(hook, uri)
    gate.touch()
    hook.wait(uri)
    assert (found["state"] in ("PENDING", "RUNNING"), found["type"], found["bytes"]) == (True, None, None)


def test_list_is_of_the_run_that_is_named(hook):
    dags = f"dä/g {uuid.uuid4()}", f"dag {uuid.uuid4()}"
    uris = [ObjectURI(hook.ray_conn_id, dag, run_id, "task") for dag in dags for run_id in ("a/b", "a")]
    for uri in uris:
        hook.put(1, uri=uri)
    of_dag = {each["uri"] for each in hook.list_objects(dags[0])}
    of_run = {each["uri"] for each in hook.list_objects(dags[0], "a/b")}
    assert (of_dag, of_run) == ({str(uri) for uri in uris[:2]}, {str(uris[0])})


def test_each_output_is_listed(hook, uri):
    run(hook, uri, lambda: {"train": [1], "te/st": [2]}, multiple_outputs=True)
    listed_uris = [each["uri"] for each in hook.list_objects(uri.dag_id, uri.run_id)]
    assert listed_uris == [str(uri.with_key("train")), str(uri.with_key("te/st"))]


# Release


def test_release_of_a_run_frees_all_its_objects_and_no_others(hook, uri):
    other_run = new_uri(hook.ray_conn_id)
    second = ObjectURI(hook.ray_conn_id, uri.dag_id, uri.run_id, "second", 3)
    for each in (uri, second, other_run):
        hook.put([1], uri=each)
    assert hook.release(dag_id=uri.dag_id, run_id=uri.run_id) == [uri, second]
    assert hook.list_objects(uri.dag_id, uri.run_id) == []
    assert hook.get(other_run) == [1]


def test_release_stops_work_that_is_under_way(hook, uri, tmp_path):
    started = tmp_path / "pid"

    def work():
        started.write_text(str(os.getpid()))
        time.sleep(600)

    hook.submit(work, uri=uri)
    while not started.exists() or not started.read_text():
        time.sleep(0.05)
    assert hook.release(uri) == []
    while psutil.pid_exists(int(started.read_text())):
        time.sleep(0.05)
    assert hook.status(uri) == "LOST"


def test_release_of_what_is_not_known_frees_nothing(hook, uri):
    assert hook.release(uri) == []


def test_release_of_everything_by_accident_is_refused(hook):
    with pytest.raises(RayConfigurationError, match="dag_id"):
        hook.release(run_id="run")


def store_bytes(head):
    """What the head's object store holds, in bytes."""
    script = (
        "import ray, sys\n"
        "from ray._private.internal_api import get_memory_info_reply\n"
        "ray.init(sys.argv[1], log_to_driver=False)\n"
        "print(get_memory_info_reply(ray._private.state.state).store_stats.object_store_bytes_used)\n"
    )
    command = [sys.executable, "-c", script, f"127.0.0.1:{head.ports[0]}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def await_store(head, below):
    deadline = time.monotonic() + 60
    while store_bytes(head) >= below:
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_producer_that_runs_again_frees_its_old_output(head):
    uri = new_uri("ray_driver")
    with RayHook("ray_driver").connect() as hook:
        before = store_bytes(head)
        for _ in range(3):
            run(hook, uri, make_frame, 5_000_000)
        await_store(head, before + 2 * 80_000_000)
        hook.release(uri)
        await_store(head, before + 80_000_000)


# Several puts under one task


def test_put_under_another_key_leaves_the_first_object(hook, uri):
    hook.put(1, uri=uri.with_key("one"))
    hook.put(2, uri=uri.with_key("two"))
    assert (hook.get(uri.with_key("one")), hook.get(uri.with_key("two"))) == (1, 2)


def test_put_under_the_same_key_takes_its_place(hook, uri):
    hook.put(1, uri=uri)
    hook.put(2, uri=uri)
    assert hook.get(uri) == 2


def test_put_in_place_of_a_result_is_not_what_a_retry_goes_on_with(hook, uri):
    def work():
        return "of the work"

    run(hook, uri, work, generation="0")
    hook.put("put", uri=uri)
    run(hook, uri, work, generation="0")
    assert hook.get(uri) == "of the work"


# Time to live


@pytest.fixture
def mortal(head, monkeypatch):
    """A connection whose objects are released two seconds after their last use."""
    monkeypatch.setenv("AIRFLOW_CONN_RAY_MORTAL", f"{head.driver_uri}&object_ttl=2")
    with RayHook("ray_mortal").connect() as hook:
        yield hook


def test_object_that_nobody_uses_is_released(mortal):
    of_work, of_put = new_uri("ray_mortal"), new_uri("ray_mortal")
    run(mortal, of_work, make_frame, 10)
    mortal.put(1, uri=of_put)
    await_release(mortal, of_work)
    await_release(mortal, of_put)
    with pytest.raises(RayObjectLostError, match="clear that task"):
        mortal.get(of_work)


def test_object_that_work_uses_is_kept_until_the_work_has_ended(mortal, tmp_path):
    gate, uri, user, idle = tmp_path / "gate", *(new_uri("ray_mortal") for _ in range(3))
    for each in (uri, idle):
        mortal.put(1, uri=each)

    def use(value):
        while not gate.exists():
            time.sleep(0.05)

    mortal.submit(use, uri, uri=user)
    await_release(mortal, idle)
    assert mortal.status(uri) == "SUCCEEDED"
    gate.touch()
    mortal.wait(user)
    await_release(mortal, uri)


@pytest.mark.parametrize("ttl", ["soon", "-1", "nan"])
def test_time_to_live_that_is_no_number_of_seconds_is_refused(head, monkeypatch, ttl):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_WRONG", f"{head.client_uri}&object_ttl={ttl}")
    with pytest.raises(RayConfigurationError, match="object_ttl must be a number of seconds"):
        RayHook("ray_wrong").list_objects()


# A full store


@pytest.fixture(scope="module")
def small_head():
    """A head whose object store takes 100 MB."""
    head = RayHead(object_store_bytes=100_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_SMALL", head.client_uri)
        yield head
    head.stop()


@pytest.mark.slow
def test_more_than_the_store_takes_is_spilled_and_read_back(small_head):
    uris = [new_uri("ray_small") for _ in range(6)]
    with RayHook("ray_small").connect() as hook:
        records = [run(hook, uri, make_frame, 2_500_000) for uri in uris]
        assert sum(record["spilled_bytes"] for record in records) >= 100_000_000
        assert any(each["spilled"] for each in hook.list_objects("tests"))
        sums = new_uri("ray_small")
        run(hook, sums, lambda frame: int(frame["a"].sum()), uris[0])
        assert hook.get(sums) == 3_124_998_750_000


@pytest.mark.slow
def test_log_of_a_task_tells_that_the_store_was_full(small_head, capfd):
    for _ in range(4):
        operator = RayPythonOperator(
            task_id="make", python_callable=make_frame, op_args=[2_500_000], ray_conn_id="ray_small"
        )
        operator.execute(context_of(uuid.uuid4().hex))
    assert "bytes were spilled to disk while this task ran" in capfd.readouterr().out


# Objects inside objects


def make_modin(rows):
    import modin.pandas as mpd
    import numpy as np

    return mpd.DataFrame({"a": np.arange(rows)})


def make_dataset(rows):
    import ray

    return ray.data.range(rows, override_num_blocks=4).materialize()


def make_matrix(rows):
    import pandas as pd
    from xgboost_ray import RayDMatrix

    return RayDMatrix(pd.DataFrame({"a": range(rows), "label": [0, 1] * (rows // 2)}), label="label", num_actors=2)


def make_refs(rows):
    import numpy as np
    import ray

    return [ray.put(np.arange(rows))]


def sum_of_first_column(value):
    import ray

    kind = type(value).__name__
    if kind == "MaterializedDataset":
        return value.sum("id")
    if kind == "RayDMatrix":
        return sum(int(value.get_data(rank)["data"]["a"].sum()) for rank in range(2))
    return int(ray.get(value)[0].sum()) if kind == "list" else int(value["a"].sum())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_modin, marks=[needs_modin, pytest.mark.slow]),
        pytest.param(make_dataset, marks=pytest.mark.slow),
        pytest.param(make_matrix, marks=pytest.mark.slow),
        make_refs,
    ],
)
def test_objects_inside_an_object_outlive_the_process_that_made_them(hook, uri, make):
    record = run(hook, uri, make, 20_000)
    # Ray ends processes that it needs no more by itself.
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(record["pid"])
        process.send_signal(signal.SIGKILL)
        process.wait()
    consumer = new_uri(hook.ray_conn_id)
    run(hook, consumer, sum_of_first_column, uri)
    assert hook.get(consumer) == 199_990_000
    assert record["outputs"]["return_value"]["bytes"] > 20_000 * 8
