"""The connection that a plain task keeps for its XComs, with connections that are only noted, not made."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from airflow_ray.client import kept
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError
from airflow_ray.object_uri import ObjectURI

HERE = ObjectURI("ray_here", "dag", "run", "task")
THERE = replace(HERE, conn_id="ray_there")


class FakeClient:
    """Takes the place of RayClient."""

    opened: list[FakeClient] = []

    def __init__(self, conn_id: str, dag_id: str | None = None, run_id: str | None = None) -> None:
        self.conn_id = conn_id
        self.run_id = run_id
        self.settings = self
        self.mode = "client"
        self.closed = threading.Event()

    @contextmanager
    def connect(self):
        self.opened.append(self)
        try:
            yield self
        finally:
            self.closed.set()


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """The clients that have connected, in order."""
    monkeypatch.setattr(FakeClient, "opened", [])
    monkeypatch.setattr(kept, "RayClient", FakeClient)
    monkeypatch.setattr(kept, "LINGER_SECONDS", 0.05)
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here")
    monkeypatch.setenv("AIRFLOW_CONN_RAY_THERE", "ray://there")
    monkeypatch.setenv("AIRFLOW_CONN_RAY_RUNS", "ray://%7Brun%7D.ray")
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DAGS", "ray://%7Bdag%7D.ray")
    yield FakeClient.opened
    for conn_id in ("ray_here", "ray_there", "ray_runs", "ray_dags"):
        kept.close(conn_id)


def failing_once(error: Exception):
    """Return what fails when it is called first."""
    errors = [error]

    def call(client):
        if errors:
            raise errors.pop()
        return client

    return call


def raising(error: Exception):
    def call(client):
        raise error

    return call


def test_connection_ends_a_while_after_a_call_that_failed(opened):
    with pytest.raises(ValueError, match="of the call"):
        kept.call(HERE, raising(ValueError("of the call")))
    assert opened[0].closed.wait(300)


def test_connection_ends_a_while_after_a_call(opened):
    kept.call(HERE, lambda client: client)
    assert opened[0].closed.wait(300)


@pytest.mark.parametrize("error", [RayOwnerDiedError("dead"), RayConnectionError("broken")])
def test_call_over_an_older_connection_is_made_again_over_a_new_one(opened, monkeypatch, error):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    older = kept.call(HERE, lambda client: client)
    newer = kept.call(HERE, failing_once(error))
    assert older.closed.is_set()
    assert newer is opened[1]


@pytest.mark.parametrize("error", [RayOwnerDiedError("dead"), RayConnectionError("broken")])
def test_call_that_fails_over_a_new_connection_ends_it(opened, monkeypatch, error):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    with pytest.raises(type(error)):
        kept.call(HERE, raising(error))
    assert opened[0].closed.is_set()
    assert kept.call(HERE, lambda client: client) is opened[1]


def test_call_that_hangs_holds_up_no_call_of_another_cluster():
    hangs, end = threading.Event(), threading.Event()
    hanging = start_in_thread(lambda: kept.call(HERE, lambda client: hangs.set() or end.wait()))
    assert hangs.wait(300)
    other = start_in_thread(lambda: kept.call(THERE, lambda client: client.conn_id))
    try:
        assert other.result(300) == "ray_there"
    finally:
        end.set()
        hanging.result(300)


def test_call_of_another_thread_meanwhile_has_a_connection_of_its_own(opened):
    hangs, end = threading.Event(), threading.Event()
    hanging = start_in_thread(lambda: kept.call(HERE, lambda client: hangs.set() or end.wait()))
    assert hangs.wait(300)
    other = start_in_thread(lambda: kept.call(HERE, lambda client: client))
    try:
        assert other.result(300) is opened[1]
        assert opened[1].closed.is_set()
    finally:
        end.set()
        hanging.result(300)


def test_call_within_a_call_uses_the_same_connection(opened):
    inner = kept.call(HERE, lambda client: kept.call(HERE, lambda inner: inner))
    assert opened == [inner]


def test_runs_share_the_connection_to_one_cluster(opened, monkeypatch):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    first, second = (kept.call(replace(HERE, run_id=run), lambda client: client) for run in ("one", "two"))
    assert first is second
    assert opened == [first]


def test_runs_with_a_cluster_each_have_a_connection_each(opened, monkeypatch):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    uris = [replace(HERE, conn_id="ray_runs", run_id=run) for run in ("one", "two", "one")]
    assert [kept.call(uri, lambda client: client.run_id) for uri in uris] == ["one", "two", "one"]
    assert [client.run_id for client in opened] == ["one", "two"]


def test_a_run_is_not_held_up_by_a_call_of_another_one():
    one, two = (replace(HERE, conn_id="ray_runs", run_id=run) for run in ("one", "two"))
    hangs, end = threading.Event(), threading.Event()
    hanging = start_in_thread(lambda: kept.call(one, lambda client: hangs.set() or end.wait()))
    assert hangs.wait(300)
    other = start_in_thread(lambda: kept.call(two, lambda client: client.run_id))
    try:
        assert other.result(300) == "two"
    finally:
        end.set()
        hanging.result(300)


def test_runs_share_the_connection_to_the_cluster_of_their_dag(opened, monkeypatch):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    uris = [replace(HERE, conn_id="ray_dags", dag_id=dag, run_id=run) for dag in "ab" for run in ("one", "two")]
    for uri in uris:
        kept.call(uri, lambda client: client)
    assert len(opened) == 2
