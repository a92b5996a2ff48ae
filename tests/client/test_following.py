"""Waits with a deadline, on connections that are only noted, and a clock that goes on while they answer."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from airflow_ray.client import following
from airflow_ray.client.client import RayClient
from airflow_ray.client.connection.opening import OPENERS
from airflow_ray.client.connection.session import Session
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError, RayWaitTimeoutError
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray_here", "dag", "run", "task")
RUNNING = {"state": "RUNNING", "lines": [], "offset": 0, "skipped": 0}
SUCCEEDED = {**RUNNING, "state": "SUCCEEDED"}
RECORD = {"state": "SUCCEEDED", "error": None}


class SlowSession(Session):
    """Answers a question for news as late as it may, with what is next in its list, the last of it again and again."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers: list = [RUNNING]
        self.connect_timeouts: list[float] = []

    @contextmanager
    def open_session(self, settings):
        self.connect_timeouts.append(settings.connect_timeout)
        yield self

    def begin(self, method, *args, **kwargs):
        return start_in_thread(lambda: self._answer(method, *args))

    def _answer(self, method, record_id, offset, timeout):
        self.now += timeout
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, value, connect_again):
        raise NotImplementedError

    def fetch(self, uri, connect_again):
        raise NotImplementedError

    def owners_of_other_versions(self):
        return []


@pytest.fixture
def session(monkeypatch):
    session = SlowSession()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here?connect_timeout=60")
    monkeypatch.setitem(OPENERS, "client", session.open_session)
    monkeypatch.setattr(following.time, "monotonic", lambda: session.now)
    return session


@pytest.mark.parametrize("timeout", [0.5, 9.0, 10.0, 25.0])
def test_wait_ends_at_its_deadline_whatever_the_rhythm_of_its_questions(session, timeout):
    with pytest.raises(RayWaitTimeoutError, match=f"RUNNING after {timeout:g} seconds"):
        RayClient("ray_here").wait(URI, timeout=timeout)
    assert session.now == pytest.approx(timeout)


def test_wait_for_what_has_ended_takes_the_last_lines_after_its_deadline_too(session):
    session.answers = [{**SUCCEEDED, "lines": ["a"], "offset": 1}, {**SUCCEEDED, "record": RECORD}]
    assert RayClient("ray_here").wait(URI, timeout=0) == RECORD


def test_connections_share_the_deadline_of_a_wait(session):
    session.answers = [RUNNING, RayConnectionError("It broke."), {**SUCCEEDED, "record": RECORD}]
    assert RayClient("ray_here").wait(URI, timeout=25) == RECORD
    assert session.connect_timeouts == [25, 5]


def test_connection_that_breaks_at_the_deadline_is_a_wait_that_took_too_long(session, monkeypatch):
    session.answers = [RayConnectionError("It broke.")]
    with pytest.raises(RayWaitTimeoutError, match=r"did not tell within 5 seconds .* It broke\."):
        RayClient("ray_here").wait(URI, timeout=5)


def test_cluster_that_does_not_answer_ends_a_wait(session, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here")
    monkeypatch.setitem(OPENERS, "client", session.open_session)
    monkeypatch.setattr(following, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(SlowSession, "begin", lambda *_: following_forever())
    with pytest.raises(RayWaitTimeoutError, match="it does not answer"):
        RayClient("ray_here").wait(URI, timeout=0.1)


def following_forever():
    from concurrent.futures import Future

    return Future()
