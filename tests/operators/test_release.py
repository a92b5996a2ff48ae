"""Objects that are released, and kept as checkpoints before."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.sdk import task

from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.release import RayReleaseOperator
from tests.conftest import new_uri
from tests.dag_runs import new_dag, run_dag

CONNECTION = "ray_kept"


@pytest.fixture
def connect(head, monkeypatch):
    """Return a function that makes a hook of a connection with a path for checkpoints, or without one."""
    address = urlsplit(head.gateway_uri)

    def hook(**extra: str) -> RayHook:
        fields = {"host": address.hostname, "port": address.port, "password": address.password}
        connection = {"conn_type": "ray", **fields, "extra": {"mode": "gateway", **extra}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(connection))
        return RayHook(CONNECTION)

    return hook


def several():
    import pandas as pd

    return {"frame": pd.DataFrame({"a": [1, 2, 3]}), "täst/1": [1, 2]}


def made(hook: RayHook) -> ObjectURI:
    """Run a task with two outputs that have no checkpoint, and return its URI."""
    uri = new_uri(CONNECTION)
    hook.submit(several, uri=uri, multiple_outputs=True)
    hook.wait(uri)
    return uri


def context_of(uri: ObjectURI) -> dict[str, object]:
    return {"ti": SimpleNamespace(dag_id=uri.dag_id, run_id=uri.run_id)}


@pytest.mark.parametrize("whole_run", [True, False], ids=["of the run", "by its URI"])
def test_objects_are_kept_as_checkpoints_and_freed(connect, tmp_path, whole_run):
    hook = connect(checkpoint_path=f"file://{tmp_path}")
    with hook.connect():
        uri = made(hook)
        given = None if whole_run else [str(uri.with_key("frame"))]
        release = RayReleaseOperator(task_id="r", ray_conn_id=CONNECTION, object_uri=given, keep="checkpoint")
        release.execute(context_of(uri))
        assert hook.list_objects(dag_id=uri.dag_id, run_id=uri.run_id) == []
        assert hook.get(uri.with_key("frame"))["a"].tolist() == [1, 2, 3]
        assert hook.get(uri.with_key("täst/1")) == [1, 2]


def test_those_that_have_a_checkpoint_are_not_written_again(connect, tmp_path):
    hook, uri = connect(checkpoint_path=f"file://{tmp_path}"), new_uri(CONNECTION)
    with hook.connect():
        hook.submit(several, uri=uri, checkpoint=True)
        hook.wait(uri)
        created = S3CheckpointHook(path=f"file://{tmp_path}").describe(uri)["created_at"]
        RayReleaseOperator(task_id="r", ray_conn_id=CONNECTION, keep="checkpoint").execute(context_of(uri))
    assert S3CheckpointHook(path=f"file://{tmp_path}").describe(uri)["created_at"] == created


def test_nothing_is_freed_where_no_checkpoint_could_be_written(connect):
    hook = connect()
    with hook.connect():
        uri = made(hook)
        release = RayReleaseOperator(task_id="r", ray_conn_id=CONNECTION, keep="checkpoint")
        with pytest.raises(RayConfigurationError, match="no path for checkpoints"):
            release.execute(context_of(uri))
        assert hook.get(uri.with_key("täst/1")) == [1, 2]


def test_another_way_to_keep_them_is_refused_as_the_dag_is_parsed():
    with pytest.raises(RayConfigurationError, match="keep must be 'checkpoint' or None"):
        RayReleaseOperator(task_id="r", keep="head")


def test_task_whose_value_is_in_xcom_alone_has_no_checkpoint_to_keep(connect, tmp_path):
    hook, uri = connect(checkpoint_path=f"file://{tmp_path}"), new_uri(CONNECTION)
    with hook.connect():
        hook.submit(len, "abc", uri=uri, result="value")
        hook.wait(uri)
        RayReleaseOperator(task_id="r", ray_conn_id=CONNECTION, keep="checkpoint").execute(context_of(uri))
        assert hook.list_objects(dag_id=uri.dag_id, run_id=uri.run_id) == []


@pytest.mark.usefixtures("database")
def test_later_tasks_find_the_checkpoints_that_were_written_as_the_objects_were_freed(connect, tmp_path):
    connect(checkpoint_path=f"file://{tmp_path}")
    with new_dag({}) as dag:

        @ray_task(ray_conn_id=CONNECTION)
        def make(number):
            return [number, number + 1]

        @ray_task(ray_conn_id=CONNECTION, result="value")
        def total(numbers, lists):
            return sum(numbers) + sum(map(sum, lists))

        @task
        def read(uris):
            return [RayHook(CONNECTION).get(uri) for uri in uris]

        one, parts = make(1), make.override(task_id="parts").expand(number=[10, 20])
        release = RayReleaseOperator(task_id="release", ray_conn_id=CONNECTION, keep="checkpoint")
        [one, parts] >> release >> [total(one, parts), read([one])]
    run = run_dag(dag)
    assert (run.xcom("total"), run.xcom("read")) == (3 + 21 + 41, [[1, 2]])


@pytest.mark.usefixtures("database")
def test_object_that_no_task_has_made_is_freed_too_and_its_checkpoint_is_said_to_be_found_by_nobody(
    connect, tmp_path, caplog
):
    connect(checkpoint_path=f"file://{tmp_path}")
    with new_dag({}) as dag:

        @task
        def put(dag_run=None):
            uri = ObjectURI(CONNECTION, dag_run.dag_id, dag_run.run_id, "no_task")
            return str(RayHook(CONNECTION).put([1, 2], uri=uri))

        put() >> RayReleaseOperator(task_id="release", ray_conn_id=CONNECTION, keep="checkpoint")
    uri = run_dag(dag).xcom("put")
    assert f"Airflow takes no XCom for {uri} here" in caplog.text
    assert S3CheckpointHook(path=f"file://{tmp_path}").load(uri) == [1, 2]
