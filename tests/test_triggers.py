"""Deferred tasks in DAG runs, the triggers run in the same process, against a real Ray head."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import psutil
import pytest
from airflow.sdk import DAG

from airflow_ray import triggers
from airflow_ray.client import base_trigger, deferral, watcher
from airflow_ray.client.connection import settings
from airflow_ray.client.connection.gateway_session import GatewaySession
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.decorators import ray_task
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.dashboard_link import RayDashboardLink
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.sensors import object as object_sensor
from airflow_ray.sensors.object import RayObjectSensor
from airflow_ray.triggers import RayObjectTrigger
from tests.airflow_kill import MESSAGE, TURN_SECONDS, kill
from tests.conftest import new_uri
from tests.dag_runs import TaskInstance, run_dag
from tests.proxy import FaultyProxy

PERSONS_ARE_TOLD = pytest.mark.skipif(MESSAGE == "a person", reason="This Airflow tells a trigger nothing of a person")

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def no_scheduler_to_wait_for(monkeypatch):
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def all_work_is_long(monkeypatch):
    monkeypatch.setattr(base, "SHORT_SECONDS", 0.0)


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


def speak():
    print("said on the cluster")
    return 42


def fail():
    raise ValueError("of the user")


def sleep_long():
    import time

    time.sleep(600)


# Deferred tasks


@pytest.mark.parametrize("conn_id", [pytest.param("ray_client", marks=pytest.mark.slow), "ray_gateway"])
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


def test_short_work_is_not_deferred(dag, conn_id, monkeypatch):
    monkeypatch.setattr(base, "SHORT_SECONDS", 60.0)
    monkeypatch.setattr(triggers, "RayObjectTrigger", None)
    with dag:
        ray_task(speak, task_id="make", ray_conn_id=conn_id, deferrable=True, result="value")()
    assert run_dag(dag).xcom("make") == 42


def speak_twice(gate):
    import os
    import time

    print("said before the deferral")
    while not os.path.exists(gate):
        time.sleep(0.05)
    print("said after the deferral")


def test_output_before_and_after_the_deferral_appears_once(dag, conn_id, tmp_path, monkeypatch, capfd):
    gate = tmp_path / "gate"

    def deferred(start_seconds):
        gate.touch()
        return 0.0

    monkeypatch.setattr(base, "SHORT_SECONDS", 3.0)
    monkeypatch.setattr(base, "seconds_to_settle", deferred)
    with dag:
        ray_task(speak_twice, task_id="make", ray_conn_id=conn_id, deferrable=True)(str(gate))
    run_dag(dag)
    assert re.findall("said .* the deferral", capfd.readouterr().out) == [
        "said before the deferral", "said after the deferral",
    ]  # fmt: skip


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
            execution_timeout=timedelta(seconds=20),
        )
    run = run_dag(dag)
    assert run.task_states("sleep") == ["failed"]
    assert RayHook(conn_id).status(ObjectURI(conn_id, dag.dag_id, run.run_id, "sleep")) == "CANCELLED"


def test_deferrable_follows_the_setting_of_airflow(monkeypatch):
    script = (
        "from airflow_ray.operators.python import RayPythonOperator\n"
        "from airflow_ray.sensors.object import RayObjectSensor\n"
        "print(RayPythonOperator(task_id='a', python_callable=print).deferrable,\n"
        "      RayObjectSensor(task_id='b', object_uri='').deferrable)\n"
    )
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "True True"


# What Airflow's scheduler has to know by the time a task goes on


def test_trigger_holds_its_event_for_as_long_as_the_task_has_said(head, monkeypatch):
    uri = new_uri("ray_gateway")
    with RayHook("ray_gateway").connect() as hook:
        hook.put(1, uri=uri)
    slept, sleep = [], asyncio.sleep

    async def no_sleep(seconds, *args):
        slept.append(seconds)
        await sleep(0, *args)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    assert asyncio.run(event_of(uri, resume={"settle_seconds": 1234.0}))["status"] == "ended"
    assert 1234.0 in slept


@pytest.mark.slow
def test_operator_and_sensor_say_how_long_the_event_is_held(dag, conn_id, monkeypatch):
    told = []
    for module in (base, object_sensor):
        monkeypatch.setattr(module, "seconds_to_settle", lambda seconds: told.append(seconds) or 0.0)
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=speak, ray_conn_id=conn_id, deferrable=True)
        RayObjectSensor(task_id="wait", object_uri=made.output, deferrable=True)
    run_dag(dag)
    assert [0 <= seconds < 300 for seconds in told] == [True, True]


# Connections


def until_there(path):
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.05)
    return 42


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def kill_client_servers(head):
    while not (servers := head.processes("specific-server")):
        time.sleep(0.05)
    for server in servers:
        # One that has lost its client ends by itself.
        with suppress(psutil.NoSuchProcess):
            server.kill()


@pytest.fixture
def short_grace(monkeypatch):
    """Let a Ray Client give a connection up after five seconds instead of thirty, and its server forget it likewise."""
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "5")


@pytest.mark.slow
def test_wait_goes_on_when_the_server_of_the_client_is_killed(head, gate, short_grace):
    uri = new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.submit(until_there, str(gate), uri=uri)
        news = hook.client.follow(uri, poll_interval=0.5)
        next(news)
        kill_client_servers(head)
        gate.touch()
        assert [*news][-1].state == "SUCCEEDED"


@pytest.mark.slow
def test_wait_goes_on_when_the_network_was_away_for_longer_than_ray_client_bears(head, gate, short_grace, monkeypatch):
    proxy = FaultyProxy(head.ports[1])
    monkeypatch.setenv("AIRFLOW_CONN_RAY_FAR", f"ray://127.0.0.1:{proxy.port}")
    uri = new_uri("ray_far")
    with RayHook("ray_far").connect() as hook:
        hook.submit(until_there, str(gate), uri=uri)
        news = hook.client.follow(uri, poll_interval=0.5)
        next(news)
        proxy.network.clear()
        # When its server has forgotten the client.
        threading.Timer(15, proxy.network.set).start()
        gate.touch()
        assert [*news][-1].state == "SUCCEEDED"
    proxy.close()


def event_of(*uris, **arguments):
    async def first():
        async for event in RayObjectTrigger([*map(str, uris)], poll_interval=1.0, **arguments).run():
            return event.payload

    return first()


@pytest.mark.slow
def test_trigger_goes_on_when_the_server_of_the_client_is_killed(head, gate, short_grace):
    uri = new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.submit(until_there, str(gate), uri=uri)

    async def waited():
        event = asyncio.create_task(event_of(uri))
        await asyncio.to_thread(kill_client_servers, head)
        gate.touch()
        return await event

    assert asyncio.run(waited())["status"] == "ended"


@pytest.mark.slow
def test_triggers_of_a_connection_share_one(head):
    uris = [new_uri("ray_client") for _ in range(20)]
    # Ray keeps the server of a connection for a while after it.
    of_earlier_tests = set(head.processes("specific-server"))

    async def waited():
        events = [asyncio.create_task(event_of(uri)) for uri in uris]
        await asyncio.to_thread(put_all, uris)
        servers = len(set(head.processes("specific-server")) - of_earlier_tests)
        return servers, [event["status"] for event in await asyncio.gather(*events)]

    def put_all(uris):
        with RayHook("ray_client").connect() as hook:
            for uri in uris:
                hook.put(1, uri=uri)

    servers, statuses = asyncio.run(waited())
    # The second one may be that of the hook that has put them.
    assert (servers <= 2, statuses) == (True, ["ended"] * 20)


def test_triggers_that_begin_to_wait_one_after_another_make_no_call_more_than_needed(head, mocker):
    calls = mocker.spy(GatewaySession, "begin")
    uris = [new_uri("ray_gateway") for _ in range(3)]

    async def waited():
        events = []
        for uri in uris:
            trigger = RayObjectTrigger([str(uri)], poll_interval=600)
            events.append(asyncio.create_task(anext(trigger.run())))
            known = calls.call_count
            while calls.call_count == known:
                await asyncio.to_thread(time.sleep, 0.05)
        await asyncio.to_thread(put_all)
        await asyncio.gather(*events)

    def put_all():
        # Ends after a while in which nothing is news.
        with RayHook("ray_client").connect():
            pass
        for uri in uris:
            RayHook("ray_gateway").put(1, uri=uri)

    asyncio.run(waited())
    watches = [call for call in calls.call_args_list if call.args[1] == "watch"]
    # One for each who begins to wait, and one after each end but the last.
    assert len(watches) <= 5


def test_trigger_tells_that_the_cluster_is_out_of_reach(monkeypatch):
    (port,) = free_ports(1)
    monkeypatch.setenv("AIRFLOW_CONN_RAY_NOWHERE", f"ray://127.0.0.1:{port}?connect_timeout=1")
    event = asyncio.run(event_of(new_uri("ray_nowhere")))
    assert (event["status"], event["type"]) == ("error", "RayConnectionError")


def test_trigger_of_unknown_work_ends(conn_id):
    assert asyncio.run(event_of(new_uri(conn_id), holder="a task"))["status"] == "ended"


def test_kill_of_a_trigger_cancels_the_work_of_its_task_only(conn_id, gate):
    own, of_another = new_uri(conn_id), new_uri(conn_id)
    with RayHook(conn_id).connect() as hook:
        for uri, holder in ((own, "a task"), (of_another, "another")):
            hook.submit(until_there, str(gate), uri=uri, holder=holder)
            kill(RayObjectTrigger([str(uri)], holder="a task"))
        gate.touch()
        assert (hook.status(own), hook.wait(of_another)["state"]) == ("CANCELLED", "SUCCEEDED")


def test_kill_of_a_sensor_cancels_nothing(conn_id, gate):
    uri = new_uri(conn_id)
    with RayHook(conn_id).connect() as hook:
        hook.submit(until_there, str(gate), uri=uri)
        kill(RayObjectTrigger([str(uri)]))
        gate.touch()
        assert hook.wait(uri)["state"] == "SUCCEEDED"


def test_cluster_that_does_not_answer_to_a_kill_is_told_with_what_to_do(monkeypatch, capfd):
    monkeypatch.setattr(triggers, "KILL_SECONDS", 0.1)
    uri = new_uri("ray_silent")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ray://127.0.0.1:{silent.getsockname()[1]}?connect_timeout=2"
        monkeypatch.setenv("AIRFLOW_CONN_RAY_SILENT", address)
        kill(RayObjectTrigger([str(uri)], holder="a task"))
    told = capfd.readouterr().out
    assert "no answer within 0.1 seconds" in told
    assert f"airflow ray release {uri}" in told


@pytest.fixture
def cancelled(monkeypatch):
    """What the watcher was asked to cancel."""
    cancelled = []
    monkeypatch.setattr(watcher, "cancel", lambda uri, *_: cancelled.append(uri))
    return cancelled


def test_kill_of_a_trigger_that_looks_its_connection_up_cancels_the_work(head, cancelled, monkeypatch):
    looks_up, look_up, end = threading.Event(), settings.settings_of, threading.Event()

    def slow(connection):
        looks_up.set()
        end.wait(0.5)
        return look_up(connection)

    monkeypatch.setattr(settings, "settings_of", slow)
    uri = new_uri("ray_gateway")
    kill(RayObjectTrigger([str(uri)], holder="a task"), waits=looks_up)
    assert cancelled == [uri]


@PERSONS_ARE_TOLD
def test_kill_of_a_trigger_cancels_the_work_where_airflow_takes_long_to_write_its_line(head, cancelled):
    uri = new_uri("ray_gateway")
    kill(RayObjectTrigger([str(uri)], holder="a task"), log_seconds=10 * TURN_SECONDS)
    assert cancelled == [uri]


def unknown(*_):
    raise RuntimeError("Airflow is busy")


def unanswered(*_):
    threading.Event().wait(60)


@pytest.fixture
def kill_of_task(head, monkeypatch, cancelled):
    """Kill a trigger whose task has some state, and return what it has cancelled."""

    def kill_of_task(states, knows=False, **arguments):
        monkeypatch.setattr(base_trigger, "states_of", states)
        monkeypatch.setattr(base_trigger, "knows_reassigned_triggers", lambda: knows)
        trigger = RayObjectTrigger([str(new_uri("ray_gateway"))], **{"holder": "a task", **arguments})
        trigger.task_instance = TaskInstance("dag", map_index=2)
        kill(trigger)
        return cancelled

    return kill_of_task


def test_kill_of_a_trigger_that_another_triggerer_may_have_taken_over_cancels_nothing(kill_of_task, capfd):
    assert kill_of_task(lambda *_: ["deferred"]) == []
    assert "the task is deferred, and another triggerer may have taken it over" in capfd.readouterr().out


def test_kill_of_a_trigger_asks_for_the_state_of_its_own_task_instance(kill_of_task):
    asked = []
    kill_of_task(lambda *names: asked.append(names) or ["failed"])
    assert asked == [("dag", TaskInstance.run_id, TaskInstance.task_id, 2)]


@pytest.mark.parametrize("arguments", [{"holder": None}, {"cancel_on_kill": False}], ids=["sensor", "goes on"])
def test_kill_of_a_trigger_asks_nothing_where_nothing_is_to_be_ended(kill_of_task, arguments):
    asked = []
    assert kill_of_task(lambda *names: asked.append(names) or [], **arguments) == asked == []


@pytest.mark.parametrize("states", [["failed"], ["success"], ["queued"], [None], []], ids=str)
def test_kill_of_a_trigger_whose_task_is_deferred_no_more_cancels_its_work(kill_of_task, states):
    assert len(kill_of_task(lambda *_: states)) == 1


def test_kill_of_a_trigger_asks_nothing_where_airflow_tells_reassigned_ones_apart(kill_of_task):
    assert len(kill_of_task(lambda *_: ["deferred"], knows=True)) == 1


@pytest.mark.parametrize(("states", "reason"), [(unknown, "Airflow is busy"), (unanswered, "no answer within 0.1 s")])
def test_kill_of_a_trigger_cancels_the_work_where_airflow_does_not_tell_the_state(
    kill_of_task, monkeypatch, capfd, states, reason
):
    monkeypatch.setattr(base_trigger, "QUESTION_SECONDS", 0.1)
    assert len(kill_of_task(states)) == 1
    assert f"Airflow does not tell the state of the task: {reason}" in capfd.readouterr().out


def test_kill_of_a_trigger_whose_connection_is_not_told_ends(cancelled, monkeypatch, capfd):
    async def untold(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(triggers, "KILL_SECONDS", 0.1)
    monkeypatch.setattr(triggers, "settings_of_id", untold)
    kill(RayObjectTrigger([str(new_uri("ray_gateway"))], holder="a task"))
    assert cancelled == []
    assert "could not be cancelled and may go on" in capfd.readouterr().out


@pytest.mark.parametrize("log_seconds", [0.0, 10 * TURN_SECONDS])
@PERSONS_ARE_TOLD
def test_kill_of_a_trigger_that_holds_its_event_cancels_the_work(head, cancelled, monkeypatch, log_seconds):
    uri, holds = new_uri("ray_gateway"), threading.Event()
    RayHook("ray_gateway").put(1, uri=uri)
    ended = RayObjectTrigger._ended

    async def ended_now(*args):
        await ended(*args)
        asyncio.get_running_loop().call_soon(holds.set)

    monkeypatch.setattr(RayObjectTrigger, "_ended", ended_now)
    trigger = RayObjectTrigger([str(uri)], holder="a task", resume={"settle_seconds": 600})
    kill(trigger, waits=holds, log_seconds=log_seconds)
    assert cancelled == [uri]


def test_triggerer_that_ends_during_a_kill_says_that_the_work_may_go_on(monkeypatch, capfd):
    async def killed_and_left():
        cancels = asyncio.Event()

        async def untold(*_):
            cancels.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(triggers, "settings_of_id", untold)
        trigger = RayObjectTrigger([str(new_uri("ray_gateway"))], holder="a task")
        killing = asyncio.create_task(trigger.on_kill())
        await cancels.wait()
        return killing

    asyncio.run(killed_and_left())
    assert "could not be ended, and may go on: Airflow's triggerer ends" in capfd.readouterr().out


def test_trigger_survives_being_stored():
    trigger = RayObjectTrigger(["ray-object://a/b/c/d/-1/e"], "holder", 2.0, 3.0, False, {"path": "s3://b"}, {"a": 1})
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    cls = getattr(__import__(module, fromlist=[name]), name)
    assert cls(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


# The button to the dashboard


def test_task_leads_to_its_page_in_the_dashboard(head, dag, monkeypatch):
    extra = {"mode": "driver", "dashboard_url": "https://ray.example/"}
    connection = {"conn_type": "ray", "host": "127.0.0.1", "port": head.ports[0], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_WITH_DASHBOARD", json.dumps(connection))
    with dag:
        RayPythonOperator(task_id="make", python_callable=speak, ray_conn_id="ray_with_dashboard")
    run = run_dag(dag)
    uri = ObjectURI("ray_with_dashboard", dag.dag_id, run.run_id, "make")
    task_id = RayHook("ray_with_dashboard").describe(uri)["task_id"]
    address = run.xcom("make", key=RayDashboardLink().xcom_key)
    assert re.fullmatch(rf"https://ray\.example/#/jobs/[0-9a-f]{{8}}/tasks/{task_id}", address)


def test_work_on_a_cluster_without_a_dashboard_has_no_page(head):
    uri = new_uri("ray_gateway")
    with RayHook("ray_gateway").connect() as hook:
        assert hook.client.submit(speak, uri=uri).dashboard_page is None
