"""Deferred tasks and sensors in DAG runs, the triggers run in the same process, against a real Ray head."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, task

from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import ObjectURIError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.sensors.object import RayObjectSensor
from tests.conftest import new_uri
from tests.dag_runs import run_dag


@pytest.fixture(scope="module", autouse=True)
def database():
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=120)


@pytest.fixture
def conn_id(head):
    return "ray_driver"


@pytest.fixture
def dag(conn_id):
    return DAG(
        dag_id=f"dag_{uuid.uuid4().hex}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    )


def speak():
    print("said on the cluster")
    return 42


def fail():
    raise ValueError("of the user")


def sleep_long():
    import time

    time.sleep(600)


# Deferred tasks


@pytest.mark.parametrize("conn_id", ["ray_client", "ray_driver"])
def test_deferred_task_returns_what_one_that_waits_returns(head, dag, conn_id):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=speak, ray_conn_id=conn_id, deferrable=True)
        RayPythonOperator(
            task_id="double",
            python_callable=lambda number: number * 2,
            op_args=[made.output],
            ray_conn_id=conn_id,
            deferrable=True,
            result="value",
        )
    run = run_dag(dag)
    assert run.xcom("double") == 84


def test_decorated_task_may_be_deferred(dag, conn_id):
    with dag:
        ray_task(speak, task_id="make", ray_conn_id=conn_id, deferrable=True, result="value")()
    assert run_dag(dag).xcom("make") == 42


def test_output_of_deferred_work_appears_in_the_log(dag, conn_id, capfd):
    with dag:
        RayPythonOperator(task_id="make", python_callable=speak, ray_conn_id=conn_id, deferrable=True)
    run_dag(dag)
    assert capfd.readouterr().out.count("said on the cluster") == 1


def test_failure_of_deferred_work_fails_the_task_with_its_cause(dag, conn_id, capfd):
    with dag:
        RayPythonOperator(task_id="fail", python_callable=fail, ray_conn_id=conn_id, deferrable=True)
    assert run_dag(dag).task_states("fail") == ["failed"]
    assert "The callable raised ValueError on the Ray cluster: of the user" in capfd.readouterr().out


def test_execution_timeout_counts_while_deferred_and_cancels_the_work(dag, conn_id):
    with dag:
        RayPythonOperator(
            task_id="sleep",
            python_callable=sleep_long,
            ray_conn_id=conn_id,
            deferrable=True,
            execution_timeout=timedelta(seconds=3),
        )
    run = run_dag(dag)
    assert run.task_states("sleep") == ["failed"]
    assert RayHook(conn_id).status(ObjectURI(conn_id, dag.dag_id, run.run_id, "sleep")) == "CANCELLED"


# Sensors


@pytest.mark.parametrize("how", [{"mode": "poke"}, {"deferrable": True}], ids=["poke", "deferred"])
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


@pytest.mark.parametrize("how", [{"mode": "poke"}, {"deferrable": True}], ids=["poke", "deferred"])
def test_sensor_fails_at_once_when_the_work_has_failed(dag, conn_id, how, capfd):
    uri = new_uri(conn_id)
    with RayHook(conn_id).connect() as hook:
        hook.submit(fail, uri=uri)
        with pytest.raises(Exception, match="of the user"):
            hook.wait(uri)
    with dag:
        RayObjectSensor(task_id="wait", object_uri=str(uri), poke_interval=600, timeout=3600, **how)
    assert run_dag(dag).task_states("wait") == ["failed"]
    assert "The callable raised ValueError on the Ray cluster: of the user" in capfd.readouterr().out


@pytest.mark.parametrize("how", [{"mode": "poke"}, {"deferrable": True}], ids=["poke", "deferred"])
def test_sensor_with_soft_fail_is_skipped_at_its_timeout(dag, conn_id, how):
    with dag:
        RayObjectSensor(
            task_id="wait", object_uri=str(new_uri(conn_id)), poke_interval=0.2, timeout=1, soft_fail=True, **how
        )
    assert run_dag(dag).task_states("wait") == ["skipped"]


def test_object_uri_of_a_sensor_is_templated(dag, conn_id):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=speak, ray_conn_id=conn_id)
        sensor = RayObjectSensor(task_id="wait", object_uri="{{ ti.xcom_pull(task_ids='make') }}", timeout=10)
        made >> sensor
    assert run_dag(dag).task_states("wait") == ["success"]


@pytest.mark.parametrize("given", ["s3://bucket/key", [], 3, ["ray-object://too/short"]])
def test_sensor_refuses_what_is_no_object_uri(given):
    with pytest.raises(ObjectURIError):
        RayObjectSensor(task_id="wait", object_uri=given).poke({})


def test_deferrable_follows_the_setting_of_airflow(monkeypatch):
    script = (
        "from airflow_ray.operators.python import RayPythonOperator\n"
        "from airflow_ray.sensors.object import RayObjectSensor\n"
        "print(RayPythonOperator(task_id='a', python_callable=print).deferrable,\n"
        "      RayObjectSensor(task_id='b', object_uri='').deferrable)\n"
    )
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout.splitlines()[-1] == "True True"
