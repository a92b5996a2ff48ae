"""What the log says while an object does not come."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

import pytest

from airflow_ray.client.connection import threads
from airflow_ray.client.connection.threads import await_telling
from airflow_ray.client.transfer.waiting import WaitForObject
from airflow_ray.exceptions import AirflowRayError, RayConnectionError, RayObjectLostError
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray", "d", "r", "a")


class Session:
    """A connection whose owner answers when a test lets it."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def begin(self, method: str, record_id: str, key: str) -> Future[Any]:
        assert (method, record_id, key) == ("check_get", URI.record_id, URI.key)
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def wait(session, caplog):
    caplog.set_level(logging.INFO)
    return WaitForObject(session, URI)


@pytest.mark.parametrize(
    ("detail", "text"),
    [("task 'a' to make it", "Waiting for task 'a' to make it"), (None, f"Waiting for the Ray cluster to send {URI}")],
)
def test_log_says_once_what_an_object_waits_for(wait, session, caplog, detail, text):
    for _ in range(3):
        wait.tell()
        session.asked[-1].set_result((detail, None))
    assert caplog.messages == [text]


def test_owner_that_does_not_answer_is_not_asked_again(wait, session):
    wait.tell()
    wait.tell()
    assert len(session.asked) == 1


def test_object_that_nobody_can_make_again_ends_the_wait(wait, session):
    wait.tell()
    session.asked[-1].set_result((None, {"kind": "input_lost", "message": "no node is there"}))
    with pytest.raises(RayObjectLostError, match="no node is there"):
        wait.tell()


def test_gateway_that_does_not_know_the_question_ends_no_wait(wait, session, caplog):
    wait.tell()
    session.asked[-1].set_exception(AirflowRayError("A client may not call 'check_get' of the cluster"))
    wait.tell()
    assert caplog.messages == [f"Waiting for the Ray cluster to send {URI}"]


def test_connection_that_breaks_ends_the_wait(wait, session):
    wait.tell()
    session.asked[-1].set_exception(RayConnectionError("gone"))
    with pytest.raises(RayConnectionError):
        wait.tell()


def test_result_comes_that_was_waited_for(monkeypatch):
    monkeypatch.setattr(threads, "TELL_SECONDS", 0.0)
    future: Future[str] = Future()
    assert await_telling(future, lambda: future.set_result("a value")) == "a value"


def test_timeout_that_the_awaited_work_raises_is_its_own(monkeypatch):
    monkeypatch.setattr(threads, "TELL_SECONDS", 0.0)
    future: Future[str] = Future()
    with pytest.raises(TimeoutError, match="of its own"):
        await_telling(future, lambda: future.set_exception(TimeoutError("of its own")))
