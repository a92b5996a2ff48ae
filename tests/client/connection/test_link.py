"""One link over one connection after another, with connections that are only noted, not made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import get_args

import pytest

from airflow_ray.client.checkpoints import recovery
from airflow_ray.client.checkpoints.location import CheckpointLocation
from airflow_ray.client.connection import link as link_module
from airflow_ray.client.connection import retrying
from airflow_ray.client.connection.link import Link
from airflow_ray.client.connection.opening import OPENERS
from airflow_ray.client.connection.session import Session
from airflow_ray.client.connection.settings import Mode
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.client.submission.submitter import LARGE_PAYLOAD_BYTES, Submitter
from airflow_ray.exceptions import RayAuthenticationError, RayConnectionError
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray_here", "dag", "run", "task")


class FakeSession(Session):
    """Answers with what it was asked, unless it breaks just then, and knows whether it is open."""

    def __init__(self, breaks: list[Exception]) -> None:
        self.is_open = True
        self._breaks = breaks

    def begin(self, method, *args, **kwargs):
        def answer():
            if self._breaks:
                raise self._breaks.pop()
            return [None] if method == "restore" else {} if method == "attach" else (method, args)

        return start_in_thread(answer)

    def send(self, value, connect_again):
        return connect_again(RayConnectionError("It broke.")), []

    def fetch(self, uri, connect_again):
        return uri

    def owners_of_other_versions(self):
        return []


class Cluster:
    """Lets sessions be opened, each after the errors that are left."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        #: With which calls end that have begun.
        self.breaks: list[Exception] = []
        self.sessions: list[FakeSession] = []
        self.timeouts: list[float] = []

    @contextmanager
    def open_session(self, settings):
        self.timeouts.append(settings.connect_timeout)
        if self.errors:
            raise self.errors.pop(0)
        session = FakeSession(self.breaks)
        self.sessions.append(session)
        try:
            yield session
        finally:
            session.is_open = False


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here?connect_timeout=30")
    monkeypatch.setitem(OPENERS, "client", cluster.open_session)
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.01)
    return cluster


def test_each_mode_has_its_way_in():
    assert set(OPENERS) == set(get_args(Mode))


def test_call_without_a_connection_has_one_of_its_own(cluster):
    assert Link("ray_here").call("describe", 1) == ("describe", (1,))
    assert [each.is_open for each in cluster.sessions] == [False]


def test_broken_connection_is_closed_before_the_next_one_is_open(cluster):
    link = Link("ray_here")
    with link.connect():
        again = link.connect_again(RayConnectionError("It broke."))
        assert [each.is_open for each in cluster.sessions] == [False, True]
        assert link.session is again
    assert not again.is_open


def test_cluster_that_comes_back_is_waited_for(cluster):
    link = Link("ray_here")
    with link.connect():
        cluster.errors = [RayConnectionError("not yet")] * 3
        assert link.connect_again(RayConnectionError("It broke.")).is_open


def test_tries_share_the_time_of_one_connection(cluster):
    link = Link("ray_here")
    with link.connect():
        cluster.errors = [RayConnectionError("not yet")] * 3
        link.connect_again(RayConnectionError("It broke."))
    again = cluster.timeouts[1:]
    assert again == sorted(again, reverse=True)
    assert again[0] <= 30


def test_error_that_stays_is_raised_at_once(cluster):
    link = Link("ray_here")
    with link.connect():
        cluster.errors = [RayAuthenticationError("no token"), RayConnectionError("never seen")]
        with pytest.raises(RayAuthenticationError):
            link.connect_again(RayConnectionError("It broke."))


def test_link_that_could_not_connect_again_has_no_closed_connection(cluster):
    link = Link("ray_here")
    with link.connect():
        cluster.errors = [RayAuthenticationError("no token")]
        with pytest.raises(RayAuthenticationError):
            link.connect_again(RayConnectionError("It broke."))
        assert link.call("describe") == ("describe", ())
        assert link.connect_again(RayConnectionError("It broke.")).is_open
    assert not any(each.is_open for each in cluster.sessions)


def test_value_goes_on_over_the_next_connection(cluster):
    link = Link("ray_here")
    with link.connect():
        session, _ = link.send("value")
        assert session is link.session is cluster.sessions[1]


def test_call_from_aside_leaves_the_link_as_it_is(cluster):
    link = Link("ray_here")
    assert link_module.call_from_aside(None, link.settings, "cancel") == ("cancel", ())
    assert link._session is None


def test_call_that_broke_is_made_again_over_the_next_connection(cluster):
    answers = [RayConnectionError("It broke."), "done"]

    def call():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    link = Link("ray_here")
    with link.connect():
        assert link.through_breaks(call) == "done"
    assert len(cluster.sessions) == 2


def test_answer_comes_over_the_next_connection_where_one_breaks(cluster):
    link = Link("ray_here")
    with link.connect():
        cluster.breaks.append(RayConnectionError("It broke."))
        assert link.call("describe", 1) == ("describe", (1,))
    assert len(cluster.sessions) == 2


def test_large_call_is_submitted_where_the_connection_breaks_while_the_cluster_is_asked_for_it(cluster):
    attempt = {"fingerprint": "same"}
    asked = []
    link = Link("ray_here")

    class Submitting(Submitter):
        def _begin(self, pickled, work):
            asked.append(link.session)
            return {}

    with link.connect():
        cluster.breaks.append(RayConnectionError("It broke."))
        Submitting(link, URI, {}, attempt).submit(bytes(LARGE_PAYLOAD_BYTES), {})
    assert asked == cluster.sessions[1:]


def test_lost_input_is_restored_where_the_connection_breaks_meanwhile(cluster, monkeypatch, tmp_path):
    location = CheckpointLocation(f"file://{tmp_path}", None)
    monkeypatch.setattr(recovery, "checkpoint_of", lambda link, uri: location)
    link = Link("ray_here")
    with link.connect():
        cluster.breaks.append(RayConnectionError("It broke."))
        recovery.restore(link, [URI])
    assert (cluster.breaks, len(cluster.sessions)) == ([], 2)
