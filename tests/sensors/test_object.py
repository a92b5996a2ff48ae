"""RayObjectSensor in DAG runs, its trigger runs in the same process, against a real Ray head."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timezone

import pytest
from airflow.sdk import DAG, task

from airflow_ray._compat import AirflowFailException
from airflow_ray.client import deferral
from airflow_ray.exceptions import ObjectURIError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.sensors.object import RayObjectSensor
from tests.conftest import new_uri
from tests.dag_runs import run_dag

pytestmark = pytest.mark.usefixtures("database")
each_way_to_wait = pytest.mark.parametrize("how", [{"mode": "poke"}, {"deferrable": True}], ids=["poke", "deferred"])


@pytest.fixture(autouse=True)
def no_scheduler_to_wait_for(monkeypatch):
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)


@pytest.fixture
def conn_id(head):
    return "ray_gateway"


@pytest.fixture
def dag(conn_id):
    return DAG(
        dag_id=f"dag_{uuid.uuid4().hex}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    )


def make():
    return 42


def fail():
    raise ValueError("of the user")


def give_up():
    raise AirflowFailException("of the user")


def failed_work(conn_id, work=fail):
    """Return the URI of work that has failed."""
    uri = new_uri(conn_id)
    with RayHook(conn_id).connect() as hook:
        hook.submit(work, uri=uri)
        with pytest.raises(Exception, match="of the user"):
            hook.wait(uri)
    return uri


@each_way_to_wait
def test_sensor_waits_for_an_object_that_nobody_has_begun_to_make(dag, conn_id, how):
    uri = new_uri(conn_id)
    with dag:

        @task
        def make_later():
            import threading

            threading.Timer(2, lambda: RayHook(conn_id).put([1, 2], uri=uri)).start()

        sensor = RayObjectSensor(task_id="wait", object_uri=str(uri), poke_interval=0.5, timeout=60, **how)
        make_later() >> sensor
    assert run_dag(dag).task_states("wait") == ["success"]


def test_sensor_waits_for_all_of_a_list(dag, conn_id):
    uris = [new_uri(conn_id) for _ in range(3)]
    for uri in uris[:2]:
        RayHook(conn_id).put(1, uri=uri)
    with dag:
        RayObjectSensor(task_id="wait", object_uri=[*map(str, uris)], poke_interval=0.1, timeout=1, deferrable=True)
    assert run_dag(dag).task_states("wait") == ["failed"]


@each_way_to_wait
def test_sensor_fails_at_once_when_the_work_has_failed(dag, conn_id, how, capfd):
    uri = failed_work(conn_id)
    with dag:
        RayObjectSensor(task_id="wait", object_uri=str(uri), poke_interval=600, timeout=3600, **how)
    assert run_dag(dag).task_states("wait") == ["failed"]
    assert "The callable raised ValueError on the Ray cluster: of the user" in capfd.readouterr().out


@each_way_to_wait
def test_sensor_with_soft_fail_is_skipped_at_its_timeout(dag, conn_id, how):
    with dag:
        RayObjectSensor(
            task_id="wait", object_uri=str(new_uri(conn_id)), poke_interval=0.2, timeout=1, soft_fail=True, **how
        )
    assert run_dag(dag).task_states("wait") == ["skipped"]


@each_way_to_wait
def test_sensor_with_never_fail_is_skipped_when_the_work_has_failed(dag, conn_id, how):
    uri = failed_work(conn_id)
    with dag:
        RayObjectSensor(task_id="wait", object_uri=str(uri), never_fail=True, **how)
    assert run_dag(dag).task_states("wait") == ["skipped"]


@each_way_to_wait
def test_sensor_with_soft_fail_is_skipped_when_the_work_has_failed_for_good(dag, conn_id, how):
    uri = failed_work(conn_id, give_up)
    with dag:
        RayObjectSensor(task_id="wait", object_uri=str(uri), soft_fail=True, **how)
    assert run_dag(dag).task_states("wait") == ["skipped"]


@each_way_to_wait
def test_sensor_says_what_the_work_waits_for_that_makes_the_object(dag, conn_id, how, capfd):
    uri = new_uri(conn_id)
    with RayHook(conn_id).connect() as hook:
        hook.submit(make, uri=uri, resources={"gadget": 3}, scheduling_timeout=300)
        try:
            while not hook.describe(uri)["detail"]:
                time.sleep(0.1)
            with dag:
                RayObjectSensor(task_id="wait", object_uri=str(uri), poke_interval=0.5, timeout=5, **how)
            assert run_dag(dag).task_states("wait") == ["failed"]
        finally:
            hook.release(uri)
    assert "waits for resources: asked for {'CPU': 1, 'gadget': 3}" in capfd.readouterr().out


def test_object_uri_of_a_sensor_is_templated(dag, conn_id):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make, ray_conn_id=conn_id)
        sensor = RayObjectSensor(task_id="wait", object_uri="{{ ti.xcom_pull(task_ids='make') }}", timeout=10)
        made >> sensor
    assert run_dag(dag).task_states("wait") == ["success"]


@pytest.mark.parametrize("given", ["s3://bucket/key", [], 3, ["ray-object://too/short"]])
def test_sensor_refuses_what_is_no_object_uri(given):
    with pytest.raises(ObjectURIError):
        RayObjectSensor(task_id="wait", object_uri=given).poke({})
