"""A connection that leads to a cluster for each DAG run: two real heads, the addresses of which Kubernetes tells."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time import xcom as xcom_of_airflow

from airflow_ray import xcom
from airflow_ray.__main__ import main as command
from airflow_ray.client import deferral, kept, watcher
from airflow_ray.client.doctor import diagnose
from airflow_ray.client.run_cluster import run_name
from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import (
    RayClusterGoneError,
    RayConnectionError,
    RayObjectLostError,
)
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.release import RayReleaseOperator
from airflow_ray.sensors.object import RayObjectSensor
from airflow_ray.triggers import RayObjectTrigger
from airflow_ray.xcom import RayXComBackend
from tests.airflow_kill import kill
from tests.dag_runs import run_dag
from tests.ray_head import RayHead
from tests.rayclusters import RayClusters

pytestmark = pytest.mark.usefixtures("database")
CONN_ID = "ray_runs"
WHERE = {"one": "127.0.0.1", "two": "127.0.0.2"}
# Nobody listens there.
NOWHERE = "127.0.0.3"


@pytest.fixture(scope="module")
def other_head(head) -> Iterator[RayHead]:
    """A head whose gateway has the port and the token of that of the other one, at another address."""
    assert head.gateway is not None
    other = RayHead()
    other.start_gateway(*head.gateway, host=WHERE["two"])
    yield other
    watcher.stop_all()
    kept.close(CONN_ID)
    other.stop()


@pytest.fixture
def kubernetes(head, other_head, monkeypatch, tmp_path) -> Iterator[RayClusters]:
    """Knows the clusters of the runs ``one`` and ``two`` of the DAG ``sales``."""
    server = RayClusters()
    for run, address in WHERE.items():
        server.set_address(run_name("sales", run), address, dag_id="sales", run_id=run)
    port, token = head.gateway
    extra = {
        "mode": "gateway",
        "kubernetes_conn_id": "kube",
        "connect_timeout": 30,
        "checkpoint_path": f"file://{tmp_path}/checkpoints",
    }
    connection = {"conn_type": "ray", "host": "{run}", "port": port, "password": token, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_KUBE", server.connection())
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID", CONN_ID)
    yield server
    kept.close(CONN_ID)
    watcher.stop_all()
    server.close()


@pytest.fixture
def heads(head, other_head) -> dict[str, int]:
    """The port of the control service of each run's cluster, which tells one from the other."""
    return {"one": head.ports[0], "two": other_head.ports[0]}


@pytest.fixture
def backend(monkeypatch) -> Iterator[None]:
    """Let XComs go through the backend, as if the setting had been there when Airflow was imported."""
    for module in (xcom_of_airflow, task_runner):
        monkeypatch.setattr(module, "XCom", RayXComBackend)
    yield
    xcom._inner_backend.cache_clear()


@pytest.fixture(autouse=True)
def no_scheduler_to_wait_for(monkeypatch):
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(base, "SHORT_SECONDS", 0.0)


def uri_of(run: str, task_id: str = "make") -> ObjectURI:
    return ObjectURI(CONN_ID, "sales", run, f"{task_id}_{uuid.uuid4().hex}")


def own_head(gate=None):
    import os
    import time

    import ray

    while gate is not None and not os.path.exists(gate):
        time.sleep(0.05)
    return int(ray.get_runtime_context().gcs_address.rpartition(":")[2])


# The hook


def test_each_verb_goes_to_the_cluster_of_the_run(kubernetes, heads):
    hook = RayHook(CONN_ID)
    uris = {run: uri_of(run) for run in WHERE}
    with hook.connect():
        for uri in uris.values():
            hook.submit(own_head, uri=uri)
        for run, uri in uris.items():
            assert hook.wait(uri)["state"] == hook.status(uri) == "SUCCEEDED"
            assert hook.get(uri) == heads[run]
            assert str(uri) in [each["uri"] for each in hook.list_objects("sales", run)]
        # One question for each connection, and none for each verb.
        assert len(kubernetes.asked) == 2
    for run, uri in uris.items():
        others = {each["uri"] for other in WHERE if other != run for each in hook.list_objects("sales", other)}
        assert str(uri) not in others
        assert hook.release(uri) == [uri]
        assert hook.status(uri) == "LOST"


@pytest.mark.slow
def test_value_is_put_into_the_cluster_of_the_run(kubernetes):
    hook = RayHook(CONN_ID)
    for run in WHERE:
        uri = uri_of(run)
        hook.put({"of": run}, uri=uri)
        assert hook.get(uri) == {"of": run}
        hook.release(dag_id="sales", run_id=run)
        assert hook.status(uri) == "LOST"


@pytest.mark.slow
def test_verb_without_a_run_is_for_all_clusters_that_kubernetes_knows(kubernetes):
    hook = RayHook(CONN_ID)
    uris = {str(hook.put(1, uri=uri_of(run))) for run in WHERE}
    assert uris <= {each["uri"] for each in hook.list_objects()}
    assert uris <= {each["uri"] for each in hook.list_objects("sales")}
    assert hook.list_objects("another") == []
    assert uris <= set(map(str, hook.release(dag_id="sales")))
    assert hook.list_objects("sales") == []


@pytest.mark.slow
def test_cluster_that_cannot_be_reached_is_left_out_of_the_list(kubernetes, caplog):
    uri = RayHook(CONN_ID).put(1, uri=uri_of("one"))
    kubernetes.statuses["default", run_name("sales", "two")] = {"state": "suspended"}
    assert str(uri) in {each["uri"] for each in RayHook(CONN_ID).list_objects()}
    assert f"Left out: The head of the RayCluster '{run_name('sales', 'two')}'" in caplog.text
    with pytest.raises(RayConnectionError, match="has no address yet: suspended"):
        RayHook(CONN_ID).list_objects("sales", "two")


def test_test_button_says_what_checks_the_cluster_of_a_run(kubernetes):
    is_good, text = RayHook(CONN_ID).test_connection()
    assert is_good
    assert "airflow ray doctor checks that which --dag-id and --run-id name" in text


@pytest.mark.slow
def test_doctor_checks_the_cluster_of_a_run(kubernetes):
    findings = {each.name: each for each in diagnose(CONN_ID, "sales", "two")}
    assert findings["host"].text == f"Kubernetes says that {run_name('sales', 'two')} is 127.0.0.2"
    assert [each.name for each in findings.values() if each.outcome == "failed"] == []


# Triggers


def test_two_runs_wait_at_once_in_one_triggerer(kubernetes, heads, tmp_path):
    hook, gate = RayHook(CONN_ID), tmp_path / "gate"
    uris = {run: uri_of(run) for run in WHERE}
    for uri in uris.values():
        hook.submit(own_head, str(gate), uri=uri)
    kubernetes.asked.clear()

    def open_gate():
        while len(kubernetes.asked) < 2:
            time.sleep(0.05)
        gate.touch()

    async def events():
        waiting = [RayObjectTrigger([str(uri)], holder="me") for uri in uris.values()]
        waiting.append(RayObjectTrigger([str(uri) for uri in uris.values()]))
        all_events = [asyncio.ensure_future(anext(trigger.run())) for trigger in waiting]
        await asyncio.to_thread(open_gate)
        return await asyncio.gather(*all_events)

    assert [event.payload["status"] for event in asyncio.run(events())] == ["ended"] * 3
    assert {run: hook.get(uri) for run, uri in uris.items()} == heads


@pytest.mark.slow
def test_kill_of_a_deferred_task_cancels_the_work_in_the_cluster_of_its_run(kubernetes, tmp_path):
    hook = RayHook(CONN_ID)
    uris = {run: uri_of(run) for run in WHERE}
    for uri in uris.values():
        hook.submit(own_head, str(tmp_path / "never"), uri=uri, holder="me")
    kill(RayObjectTrigger([str(uris["two"])], holder="me"))
    assert hook.status(uris["two"]) == "CANCELLED"
    assert hook.status(uris["one"]) in ("PENDING", "RUNNING")
    hook.cancel(uris["one"])


# DAG runs


def new_dag() -> DAG:
    return DAG(
        dag_id=f"dag_{uuid.uuid4().hex}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)
    )  # fmt: skip


def run_at(kubernetes: RayClusters, dag: DAG, address: str):
    """Run a DAG whose run has its cluster at an address: the names of runs are known when they have begun."""
    kubernetes.elsewhere = address
    run = run_dag(dag)
    kubernetes.elsewhere = None
    kubernetes.set_address(run_name(dag.dag_id, run.run_id), address)
    return run


def same(head):
    import ray

    assert head == int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    return head


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"a": range(rows)})


def total(frame):
    return int(frame["a"].sum())


@pytest.mark.parametrize("run", ["two", pytest.param("one", marks=pytest.mark.slow)])
def test_all_parts_of_a_dag_run_find_its_cluster(kubernetes, heads, backend, run):
    dag = new_dag()
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=own_head, ray_conn_id=CONN_ID, deferrable=True)
        seen = RayObjectSensor(task_id="see", object_uri=made.output, deferrable=True, poke_interval=0.5, timeout=60)
        taken = RayPythonOperator(
            task_id="take", python_callable=same, op_args=[made.output], ray_conn_id=CONN_ID, result="value"
        )
        # Through the XCom backend, there and back.
        frame = task(make_frame, task_id="frame")(10)
        count = ray_task(total, task_id="count", ray_conn_id=CONN_ID, result="value")(frame)
        plain = task(total, task_id="plain")(frame)
        release = RayReleaseOperator(task_id="release", ray_conn_id=CONN_ID).as_teardown(setups=made)
        made >> seen >> taken >> frame >> [count, plain] >> release
    finished = run_at(kubernetes, dag, WHERE[run])
    assert finished.state == "success"
    assert finished.xcom("take") == heads[run]
    assert finished.xcom("count") == finished.xcom("plain") == 45
    assert RayHook(CONN_ID).list_objects(dag.dag_id, finished.run_id) == []


def test_second_run_reads_the_checkpoint_of_the_first_one(kubernetes):
    first, second = new_dag(), new_dag()
    with first:
        RayPythonOperator(
            task_id="make", python_callable=make_frame, op_args=[10], ray_conn_id=CONN_ID, checkpoint=True
        )  # fmt: skip
    made = run_at(kubernetes, first, WHERE["one"]).xcom("make")
    with second:
        RayPythonOperator(
            task_id="count", python_callable=total, op_args=[made], ray_conn_id=CONN_ID, result="value"
        )  # fmt: skip
        RayPythonOperator(
            task_id="whole", python_callable=total, op_args=[made], ray_conn_id=CONN_ID, result="value", deferrable=True
        )
    run = run_at(kubernetes, second, WHERE["two"])
    assert (run.xcom("count"), run.xcom("whole")) == (45, 45)


@pytest.mark.slow
def test_input_of_another_run_without_a_checkpoint_is_told(kubernetes, capfd):
    uri = uri_of("one")
    RayHook(CONN_ID).put(1, uri=uri)
    dag = new_dag()
    with dag:
        RayPythonOperator(task_id="take", python_callable=same, op_args=[str(uri)], ray_conn_id=CONN_ID)
    assert run_at(kubernetes, dag, WHERE["two"]).task_states("take") == ["failed"]
    output = capfd.readouterr().out
    assert f"There is no object {uri} in the Ray cluster of run" in output
    assert "it belongs to the Ray cluster of run 'one' of DAG 'sales', and has no checkpoint" in output


# A cluster that is gone


def gone(kubernetes: RayClusters, run: str) -> None:
    del kubernetes.statuses["default", run_name("sales", run)]


def test_object_of_a_cluster_that_is_gone_is_read_from_its_checkpoint(kubernetes):
    hook, uri = RayHook(CONN_ID), uri_of("two")
    hook.submit(make_frame, 10, uri=uri, checkpoint=True)
    hook.wait(uri)
    gone(kubernetes, "two")
    assert hook.get(uri)["a"].sum() == 45
    assert hook.client.of(uri).is_available(uri)


@pytest.mark.slow
def test_object_of_a_cluster_that_is_gone_without_a_checkpoint_is_lost(kubernetes):
    hook, uri = RayHook(CONN_ID), uri_of("two")
    hook.put(1, uri=uri)
    gone(kubernetes, "two")
    with pytest.raises(RayObjectLostError, match=r"no RayCluster .* It has no checkpoint"):
        hook.get(uri)
    with pytest.raises(RayClusterGoneError, match="So the Ray cluster of run 'two' of DAG 'sales' cannot be reached"):
        hook.status(uri)


@pytest.mark.slow
def test_release_of_a_cluster_that_is_gone_has_nothing_to_do(kubernetes, capfd):
    dag = new_dag()
    with dag:
        RayReleaseOperator(task_id="release", ray_conn_id=CONN_ID)
        RayReleaseOperator(task_id="release_one", object_uri=str(uri_of("three")))
    assert run_dag(dag).state == "success"
    assert capfd.readouterr().out.count("There is nothing to release. There is no RayCluster") == 2


@pytest.mark.slow
def test_cluster_that_does_not_answer_is_told_and_its_checkpoint_serves(kubernetes):
    hook, uri = RayHook(CONN_ID), uri_of("two")
    hook.submit(make_frame, 10, uri=uri, checkpoint=True)
    hook.wait(uri)
    kubernetes.set_address(run_name("sales", "two"), NOWHERE)
    with pytest.raises(RayConnectionError, match="So the Ray cluster of run 'two' of DAG 'sales' cannot be reached"):
        hook.status(uri)
    assert hook.get(uri)["a"].sum() == 45


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"mode": "poke"}, {"deferrable": True}], ids=["poke", "deferred"])
def test_tasks_take_the_checkpoint_of_a_cluster_that_is_gone(kubernetes, backend, how):
    first, second = new_dag(), new_dag()
    with first:
        RayPythonOperator(
            task_id="make", python_callable=make_frame, op_args=[10], ray_conn_id=CONN_ID, checkpoint=True
        )  # fmt: skip
    run = run_at(kubernetes, first, WHERE["two"])
    made, run_id = run.xcom("make"), run.run_id
    del kubernetes.statuses["default", run_name(first.dag_id, run.run_id)]
    with second:

        @task
        def read():
            return total(RayHook(CONN_ID).get(made))

        @task
        def pull(ti=None):
            return total(ti.xcom_pull(task_ids="make", dag_id=first.dag_id, run_id=run_id, map_indexes=-1))

        read()
        pull()
        RayObjectSensor(task_id="see", object_uri=made, poke_interval=0.5, timeout=60, **how)
        lost = str(uri_of("three"))
        RayObjectSensor(task_id="see_lost", object_uri=lost, poke_interval=0.5, timeout=60, **how)
    run = run_dag(second)
    assert run.xcom("read") == run.xcom("pull") == 45
    assert (run.task_states("see"), run.task_states("see_lost")) == (["success"], ["failed"])


@pytest.mark.slow
def test_sensor_that_does_not_mind_waits_for_a_cluster_that_is_not_made_yet(kubernetes):
    uri = uri_of("three")
    dag = new_dag()
    with dag:

        @task
        def make_later():
            def make():
                kubernetes.set_address(run_name("sales", "three"), WHERE["one"])
                RayHook(CONN_ID).put(1, uri=uri)

            threading.Timer(2, make).start()

        sensor = RayObjectSensor(
            task_id="see", object_uri=str(uri), fail_if_lost=False, deferrable=True, poke_interval=0.5, timeout=60
        )
        make_later() >> sensor
    assert run_dag(dag).task_states("see") == ["success"]


# The command line


@pytest.mark.slow
def test_command_line_finds_the_cluster_of_the_run(kubernetes, capsys):
    def output_of(*arguments: str) -> str:
        capsys.readouterr()
        command(list(arguments))
        return capsys.readouterr().out

    hook = RayHook(CONN_ID)
    uris = {run: uri_of(run) for run in WHERE}
    for run, uri in uris.items():
        hook.put([run], uri=uri)
    for run, uri in uris.items():
        listed = output_of("objects", "--conn-id", CONN_ID, "--dag-id", "sales", "--run-id", run, "--output", "json")
        assert str(uri) in [each["uri"] for each in json.loads(listed)]
        assert run in output_of("get", str(uri))
        assert str(uri) in output_of("describe", str(uri))
    freed = output_of("release", *map(str, uris.values()))
    assert all(str(uri) in freed for uri in uris.values())
    left = json.loads(output_of("objects", "--conn-id", CONN_ID, "--output", "json"))
    assert not {each["uri"] for each in left}.intersection(map(str, uris.values()))
