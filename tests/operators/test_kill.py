"""What the log of a killed task says of its remote work."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from airflow_ray.client.connection import opening
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError, RayTaskCancelledError
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.python import RayPythonOperator

URI = ObjectURI("ray_here", "dag", "run", "task")


class FakeSession:
    """Notes what it is asked, and fails as it is told."""

    def __init__(self, error: Exception | None = None, answers: threading.Event | None = None) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.error = error
        self.answers = answers

    def begin(self, *args):
        return start_in_thread(lambda: self.call(*args))

    def call(self, *args):
        if self.answers is not None:
            self.answers.wait()
        if self.error is not None:
            raise self.error
        self.calls.append(args)


@pytest.fixture
def operator(monkeypatch):
    """An operator whose work has been submitted."""
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://127.0.0.1:1")
    monkeypatch.setattr(base, "KILL_SECONDS", 5.0)
    operator = RayPythonOperator(task_id="task", python_callable=print, ray_conn_id="ray_here")
    operator._uri, operator._holder = URI, "holder"
    return operator


@pytest.fixture
def new_session(monkeypatch):
    """What the next connection is, or the error with which it fails."""
    session = FakeSession()

    @contextmanager
    def open_session(settings):
        if session.error is not None:
            raise session.error
        yield session

    monkeypatch.setattr(opening, "open_session", open_session)
    return session


CANCEL = "cancel", URI.record_id, "holder"


def kill(operator, session, capfd) -> str:
    """Return what the log says of a kill while the task's connection is this one."""
    operator.client.link._session = session
    operator.on_kill()
    return capfd.readouterr().out


def test_work_is_cancelled_over_the_connection_of_the_task(operator, new_session, capfd):
    session = FakeSession()
    assert "could not be cancelled" not in kill(operator, session, capfd)
    assert (session.calls, new_session.calls) == ([CANCEL], [])


def test_work_that_is_not_to_be_cancelled_goes_on_and_the_log_says_so(operator, new_session, capfd):
    operator.cancel_on_kill = False
    session = FakeSession()
    assert f"{URI} goes on without this task" in kill(operator, session, capfd)
    assert (session.calls, new_session.calls) == ([], [])


def test_work_is_cancelled_over_another_connection_where_that_of_the_task_breaks(operator, new_session, capfd):
    assert "could not be cancelled" not in kill(operator, FakeSession(RayConnectionError("It broke.")), capfd)
    assert new_session.calls == [CANCEL]


def test_work_is_cancelled_while_the_connection_of_the_task_is_made_again(operator, new_session, capfd):
    assert "could not be cancelled" not in kill(operator, None, capfd)
    assert new_session.calls == [CANCEL]
    assert operator.client.link._session is None


def test_cluster_that_cannot_be_reached_is_told_with_what_to_do(operator, new_session, capfd):
    new_session.error = RayConnectionError("Connection refused")
    told = kill(operator, None, capfd)
    assert "Connection refused" in told
    assert f"airflow ray release {URI}" in told


def test_cluster_that_does_not_answer_is_told_with_what_to_do(operator, new_session, capfd, monkeypatch):
    monkeypatch.setattr(base, "KILL_SECONDS", 0.1)
    answers = threading.Event()
    told = kill(operator, FakeSession(answers=answers), capfd)
    answers.set()
    assert "no answer within 0.1 seconds" in told
    assert f"airflow ray release {URI}" in told


def test_second_kill_tries_again_what_the_first_could_not_do(operator, new_session, capfd):
    new_session.error = RayConnectionError("Connection refused")
    kill(operator, None, capfd)
    new_session.error = None
    operator.on_kill()
    assert new_session.calls == [CANCEL]


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_work_does_not_begin_of_a_task_that_was_killed_while_it_connected(operator, monkeypatch, cancel_on_kill):
    operator._uri, operator.cancel_on_kill = None, cancel_on_kill

    @contextmanager
    def killed_meanwhile():
        operator.on_kill()
        yield

    monkeypatch.setattr(operator.client, "connect", killed_meanwhile)
    submitted = []
    monkeypatch.setattr(operator.client, "submit", lambda *args, **kwargs: submitted.append(args))
    ti = SimpleNamespace(
        dag_id="dag", run_id="run", task_id="task", map_index=-1, start_date=datetime.now(timezone.utc)
    )
    with pytest.raises(RayTaskCancelledError, match="was killed before it had submitted its work"):
        operator.execute({"ti": ti})
    assert submitted == []
