"""The connection that a plain task keeps for its XComs, with connections that are only noted, not made."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from airflow_ray.client import kept
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError


class FakeClient:
    """Takes the place of RayClient."""

    opened: list[FakeClient] = []

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
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
    yield FakeClient.opened
    for conn_id in ("ray_here", "ray_there"):
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
        kept.call("ray_here", raising(ValueError("of the call")))
    assert opened[0].closed.wait(30)


def test_connection_ends_a_while_after_a_call(opened):
    kept.call("ray_here", lambda client: client)
    assert opened[0].closed.wait(30)


@pytest.mark.parametrize("error", [RayOwnerDiedError("dead"), RayConnectionError("broken")])
def test_call_over_an_older_connection_is_made_again_over_a_new_one(opened, monkeypatch, error):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    older = kept.call("ray_here", lambda client: client)
    newer = kept.call("ray_here", failing_once(error))
    assert older.closed.is_set()
    assert newer is opened[1]


@pytest.mark.parametrize("error", [RayOwnerDiedError("dead"), RayConnectionError("broken")])
def test_call_that_fails_over_a_new_connection_ends_it(opened, monkeypatch, error):
    monkeypatch.setattr(kept, "LINGER_SECONDS", 600)
    with pytest.raises(type(error)):
        kept.call("ray_here", raising(error))
    assert opened[0].closed.is_set()
    assert kept.call("ray_here", lambda client: client) is opened[1]


def test_call_that_hangs_holds_up_no_call_of_another_cluster():
    hangs, end = threading.Event(), threading.Event()
    hanging = start_in_thread(lambda: kept.call("ray_here", lambda client: hangs.set() or end.wait()))
    assert hangs.wait(30)
    other = start_in_thread(lambda: kept.call("ray_there", lambda client: client.conn_id))
    try:
        assert other.result(5) == "ray_there"
    finally:
        end.set()
        hanging.result(30)


def test_call_of_another_thread_meanwhile_has_a_connection_of_its_own(opened):
    hangs, end = threading.Event(), threading.Event()
    hanging = start_in_thread(lambda: kept.call("ray_here", lambda client: hangs.set() or end.wait()))
    assert hangs.wait(30)
    other = start_in_thread(lambda: kept.call("ray_here", lambda client: client))
    try:
        assert other.result(5) is opened[1]
        assert opened[1].closed.is_set()
    finally:
        end.set()
        hanging.result(30)


def test_call_within_a_call_uses_the_same_connection(opened):
    inner = kept.call("ray_here", lambda client: kept.call("ray_here", lambda inner: inner))
    assert opened == [inner]
