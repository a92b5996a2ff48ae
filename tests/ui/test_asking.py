"""Questions to clusters that are down, slow, or not there at all."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_ray.client.connection import local_head
from airflow_ray.cluster.owner.keeper import Build
from airflow_ray.cluster.protocol import OWNER_PREFIX
from airflow_ray.hooks.ray import RayHook
from airflow_ray.ui import asking
from airflow_ray.ui.asking import MAX_OF_ONE, ask, ask_all
from airflow_ray.ui.questions import cluster_of
from tests.conftest import new_uri

TOKEN = "a-token-of-16-characters"


@pytest.fixture(scope="module")
def used_head(head):
    """A head on which something is kept, so that somebody is there who answers."""
    with RayHook("ray_gateway").connect() as hook:
        uri = hook.put(1, uri=new_uri("ray_gateway"))
        yield head
        hook.release(uri)


@pytest.fixture
def connection(monkeypatch):
    """Return a function that makes a connection and returns its id."""

    def make(name, **fields):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "ray", **fields}))
        return name

    return make


@pytest.fixture
def nameless(monkeypatch):
    """Let nobody wait for a name that no name server knows."""
    monkeypatch.setattr("airflow_ray.client.connection.clusters.NAME_SECONDS", 0.01)


@pytest.fixture
def silent_port():
    """A port where somebody takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def gateway(port):
    return {"host": "127.0.0.1", "port": port, "password": TOKEN, "extra": {"mode": "gateway"}}


def survey(client):
    return client.survey()


def test_cluster_that_is_silent_is_given_up(connection, silent_port):
    conn_id = connection("page_silent", **gateway(silent_port))
    answer = asyncio.run(ask(conn_id, survey, seconds=0.5))
    assert answer.value is None
    assert answer.problem


def test_function_that_does_not_return_is_given_up(used_head):
    release = threading.Event()
    answer = asyncio.run(ask("ray_gateway", lambda _: release.wait(60), seconds=0.5))
    release.set()
    assert answer.value is None
    assert answer.problem


def test_few_wait_for_one_cluster_at_a_time(used_head):
    release = threading.Event()
    begun = threading.Semaphore(0)

    def wait(client):
        begun.release()
        return release.wait(60)

    async def scene():
        waiting = [asyncio.create_task(ask("ray_gateway", wait, seconds=60)) for _ in range(MAX_OF_ONE)]
        for _ in waiting:
            assert await asyncio.to_thread(begun.acquire, timeout=60)
        one_more = await ask("ray_gateway", survey)
        release.set()
        return one_more, [(await each).value for each in waiting]

    one_more, answers = asyncio.run(scene())
    assert "being asked already" in one_more.problem
    assert answers == [True] * MAX_OF_ONE


def test_question_for_which_no_thread_was_free_is_not_under_way_any_more(connection, silent_port, monkeypatch):
    conn_id = connection("page_queued", **gateway(silent_port))
    release = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(asking, "_threads", lambda: threads)
        threads.submit(release.wait, 60)
        problems = {asyncio.run(ask(conn_id, survey, seconds=0.05)).problem for _ in range(MAX_OF_ONE + 1)}
        release.set()
    assert problems == {"It did not answer within 0.05 seconds."}


@pytest.mark.usefixtures("nameless")
def test_nothing_is_kept_of_the_cluster_of_a_run_that_was_asked(connection):
    conn_id = connection("page_many", **{**gateway(9), "host": "{run}.invalid"})
    run = "sales", "by_hand"
    assert asyncio.run(ask(conn_id, survey, run)).problem
    assert (conn_id, run) not in asking._under_way


def test_cluster_that_is_down_starts_nothing_and_others_answer(used_head, connection):
    conn_id = connection("page_down", **gateway(9))
    down, up = asyncio.run(ask_all([conn_id, "ray_gateway"], survey))
    assert "127.0.0.1:9" in down.problem
    assert up.value["nodes"] == 1


def test_embedded_head_is_not_started_by_a_look(connection, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR", str(tmp_path))
    answer = asyncio.run(ask(connection("page_local", extra={"mode": "local"}), survey))
    assert "No embedded Ray runs on this machine" in answer.problem
    assert local_head.running() is None


def test_namespace_in_which_nothing_has_run_is_left_without_an_owner(head, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PAGE_NOBODY", f"{head.gateway_uri}&namespace=nobody")
    uri = new_uri("page_nobody")

    def look(client):
        seen = client.survey()["nodes"], client.list_objects(), client.status(uri), client.cancel(uri)
        return *seen, client.release(uri), client.sample(uri, 1, 1)["error"]["kind"], client.link.session.peer.greeting

    for _ in range(2):
        *seen, greeting = asyncio.run(ask("page_nobody", look)).value
        assert seen == [1, [], "LOST", False, [], "no_object"]
        assert not greeting["owner"]


def test_objects_of_another_release_are_not_taken_for_nothing(used_head, mocker):
    mocker.patch.object(Build, "owner_name", OWNER_PREFIX + "of_a_release_that_has_not_run_here")
    answer = asyncio.run(ask("ray_gateway", lambda client: client.list_objects()))
    assert "another release" in answer.problem
    cluster = asyncio.run(ask("ray_gateway", lambda client: cluster_of(client, set()))).value
    assert (cluster.nodes, cluster.is_empty) == (1, False)
    assert "another release" in cluster.problem


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"extra": {"mode": "gateway"}, "host": "127.0.0.1"}, "needs a token"),
        ({"extra": {"mode": "driver"}}, "names no host"),
        ({"conn_type": "http", "host": "127.0.0.1"}, "not 'ray'"),
        ({"extra": {"mode": "gateway"}, "host": "{run}.example.com", "password": TOKEN}, "run"),
    ],
)
def test_connection_that_cannot_be_used_is_told(connection, fields, told):
    assert told in asyncio.run(ask(connection("page_wrong", **fields), survey)).problem


@pytest.mark.usefixtures("nameless")
def test_cluster_of_a_run_is_asked_at_its_own_address(connection):
    conn_id = connection("page_of_run", **{**gateway(9), "host": "{run}.invalid"})
    answer = asyncio.run(ask(conn_id, survey, ("sales", "by_hand")))
    assert ".invalid" in answer.problem
    assert "{run}" not in answer.problem


def test_connection_that_is_not_there_is_told():
    assert "no connection" in asyncio.run(ask("page_of_nobody", survey)).problem


def test_error_of_a_question_is_told(used_head):
    def fail(client):
        raise ValueError("of the question")

    assert asyncio.run(ask("ray_gateway", fail)).problem == "ValueError: of the question"
