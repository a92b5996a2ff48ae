"""Who waits in one process over one connection, with connections that are only noted, not made."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from airflow_ray.client import watcher
from airflow_ray.client.connection import clusters, retrying
from airflow_ray.client.connection.clusters import settings_at
from airflow_ray.client.connection.opening import OPENERS
from airflow_ray.client.connection.settings import RaySettings
from airflow_ray.client.watcher import Subscription, watching
from airflow_ray.exceptions import RayAuthenticationError, RayClusterGoneError, RayConnectionError, RayOwnerDiedError
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray_here", "dag", "run", "task")
LINES = {"ended": False, "state": "RUNNING", "lines": ["a"], "skipped": 0, "offset": 1}
ENDED = {"ended": True, "state": "SUCCEEDED", "lines": [], "skipped": 0, "offset": 0}


class FakeCluster:
    """Answers, or fails to, as the list says: each item is an error of the connection, or of the call, or news."""

    def __init__(self) -> None:
        self.connecting: list[Exception] = []
        self.answers: list[Exception | dict] = []
        self.opened = 0
        self.gone: set[str] = set()
        self.asked: list[list] = []
        self.askers: list[str] = []
        # What comes behind the answers.
        self.behind: list[dict] = []

    @contextmanager
    def open_session(self, settings):
        if settings.cluster.run_id in self.gone:
            raise RayClusterGoneError("gone")
        if self.connecting:
            raise self.connecting.pop(0)
        self.opened += 1
        yield self

    def begin(self, method, watcher_id, asked, interval):
        self.asked.append(asked)
        self.askers.append(watcher_id)
        answer = self.answers.pop(0) if self.answers else None
        future: Future = Future()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result([answer] * len(asked) + self.behind)
        return future

    def call(self, method, *args):
        return None


@pytest.fixture
def cluster(monkeypatch):
    cluster = FakeCluster()
    monkeypatch.setitem(OPENERS, "client", cluster.open_session)
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(watcher, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(watcher, "MIN_SECONDS_BETWEEN_CALLS", 0.0)
    monkeypatch.setattr(clusters.socket, "getaddrinfo", lambda *_: [])
    yield cluster
    watcher.stop_all()


def news_of(follows: bool = True, timeout: float = 30.0) -> dict:
    """Return the first news for one who waits."""
    news: queue.Queue[dict] = queue.Queue()
    settings = RaySettings(conn_id="ray_here", host="here", connect_timeout=timeout)
    with watching(settings, [Subscription(URI, follows, 10.0, lambda _, item: news.put(item))]):
        return news.get(timeout=300)


def test_news_comes_over_the_connection_after_one_that_broke(cluster):
    cluster.answers = [RayConnectionError("It broke."), ENDED]
    assert news_of() is ENDED
    assert cluster.opened == 2


def test_what_was_told_over_a_connection_that_broke_is_told_again_to_whoever_asks_over_the_next_one(cluster):
    cluster.answers = [RayConnectionError("It broke."), ENDED]
    news_of()
    # The owner tells each watcher once what has changed.
    assert len(set(cluster.askers)) == 2


def test_cluster_that_comes_back_is_waited_for(cluster):
    cluster.connecting = [RayConnectionError("not yet")] * 3
    cluster.answers = [ENDED]
    assert news_of() is ENDED


def test_cluster_that_does_not_come_back_is_told(cluster):
    cluster.connecting = [RayConnectionError("not yet")] * 1000
    assert "not yet" in str(news_of(timeout=0.1)["error"])


def test_error_that_stays_is_told_at_once(cluster):
    cluster.connecting = [RayAuthenticationError("no token")]
    assert "no token" in str(news_of()["error"])
    assert cluster.connecting == []


def test_owner_that_died_is_told_to_those_who_follow_work(cluster):
    cluster.answers = [RayOwnerDiedError("dead")]
    assert "dead" in str(news_of()["error"])


def test_owner_that_died_is_waited_for_by_those_who_wait_for_an_object(cluster):
    cluster.answers = [RayOwnerDiedError("dead"), ENDED]
    assert news_of(follows=False) is ENDED


@pytest.mark.parametrize(
    ("host", "opened"), [("here", 1), ("{dag}.here", 1), ("{run}.here", 2)], ids=["shared", "dag", "run"]
)
def test_there_is_one_connection_to_each_cluster(cluster, host, opened):
    cluster.answers = [LINES] * opened
    template = RaySettings(conn_id="ray_here", host=host)
    news: queue.Queue = queue.Queue()
    with ExitStack() as stack:
        for run in ("one", "two"):
            uri = replace(URI, run_id=run)
            subscription = Subscription(uri, True, 10.0, lambda *item: news.put(item))
            settings = settings_at(template, uri.dag_id, uri.run_id)
            stack.enter_context(watching(settings, [subscription]))
        while len({record_id for asked in cluster.asked for record_id, *_ in asked}) < 2:
            time.sleep(0.01)
    assert cluster.opened == opened


def test_cluster_that_is_gone_fails_those_who_wait_there_and_no_others(cluster):
    template = RaySettings(conn_id="ray_here", host="{run}.here")
    cluster.gone.add("one")
    cluster.answers = [ENDED]
    news: queue.Queue = queue.Queue()
    with ExitStack() as stack:
        for run in ("one", "two"):
            subscription = Subscription(replace(URI, run_id=run), True, 10.0, lambda *item: news.put(item))
            stack.enter_context(watching(settings_at(template, "dag", run), [subscription]))
        told = {subscription.uri.run_id: item for subscription, item in (news.get(timeout=300) for _ in range(2))}
    assert isinstance(told["one"]["error"], RayClusterGoneError)
    assert told["two"] is ENDED


def test_one_whose_news_are_not_confirmed_gets_no_more_and_holds_up_nobody(cluster, monkeypatch):
    monkeypatch.setattr(watcher, "CONFIRM_SECONDS", 0.01)
    cluster.answers = [LINES]
    settings = RaySettings(conn_id="ray_here", host="here")
    news: queue.Queue = queue.Queue()
    busy, other = (Subscription(URI, follows, 10.0, lambda *item: news.put(item)) for follows in (True, False))
    with watching(settings, [busy, other]) as waiting:
        assert {news.get(timeout=300)[0] for _ in range(2)} == {busy, other}
        while cluster.asked[-1] != [other.wanted]:
            time.sleep(0.01)
        waiting.confirm(busy, 1)
        while sorted(cluster.asked[-1], key=str) != sorted([busy.wanted, other.wanted], key=str):
            time.sleep(0.01)
    assert busy.wanted == (URI.record_id, None, 1)


def test_end_of_a_call_in_whose_place_another_comes_causes_no_third(cluster, monkeypatch):
    calls: list[Future] = []
    third = threading.Event()

    def begin(method, watcher_id, asked, interval):
        calls.append(Future())
        if len(calls) == 2:
            calls[0].set_result([None])
        if len(calls) == 3:
            third.set()
        return calls[-1]

    monkeypatch.setattr(cluster, "begin", begin)
    settings = RaySettings(conn_id="ray_here", host="here")
    one, other = (Subscription(URI, False, 10.0, lambda *_: None) for _ in range(2))
    with watching(settings, [one]):
        while not calls:
            time.sleep(0.01)
        with watching(settings, [other]):
            while len(calls) < 2:
                time.sleep(0.01)
            assert not third.wait(0.3)
            calls[-1].set_result([ENDED, ENDED])


def test_who_comes_while_others_wait_does_not_let_them_wait_for_longer(cluster, monkeypatch):
    intervals: list[float] = []

    def begin(method, watcher_id, asked, interval):
        intervals.append(interval)
        return Future()

    monkeypatch.setattr(cluster, "begin", begin)
    settings = RaySettings(conn_id="ray_here", host="here")
    with ExitStack() as stack:
        for number in range(1, 4):
            waits = Subscription(URI, False, 10.0, lambda *_: None)
            stack.enter_context(watching(settings, [waits]))
            while len(intervals) < number:
                time.sleep(0.01)
    assert 10.0 == intervals[0] > intervals[1] > intervals[2]


@pytest.fixture
def open_calls(cluster, monkeypatch) -> tuple[list[Future], threading.Event]:
    """The calls that a test answers, and whether there was a third."""
    calls: list[Future] = []
    third = threading.Event()

    def begin(method, watcher_id, asked, interval):
        calls.append(Future())
        if len(calls) == 3:
            third.set()
        return calls[-1]

    monkeypatch.setattr(cluster, "begin", begin)
    return calls, third


def test_one_more_who_comes_with_the_news_of_another_causes_no_third(open_calls):
    calls, third = open_calls

    class InTheMiddle(list):
        def __iter__(self):
            yield from super().__iter__()
            if not calls[0].done():
                # They are noted, and who asks is not told yet.
                calls[0].set_result([None])
                third.wait(0.3)

    settings = RaySettings(conn_id="ray_here", host="here")
    one, other = (Subscription(URI, False, 10.0, lambda *_: None) for _ in range(2))
    with watching(settings, [one]):
        while not calls:
            time.sleep(0.01)
        with watching(settings, InTheMiddle([other])):
            while len(calls) < 2:
                time.sleep(0.01)
            assert not third.wait(0.3)
            calls[-1].set_result([ENDED, ENDED])


def test_confirmation_of_an_end_that_comes_late_causes_no_third(open_calls):
    calls, third = open_calls
    settings = RaySettings(conn_id="ray_here", host="here")
    ended: queue.Queue = queue.Queue()
    one, other = (Subscription(URI, False, 10.0, lambda subscription, _: ended.put(subscription)) for _ in range(2))
    with watching(settings, [one, other]) as waiting:
        while not calls:
            time.sleep(0.01)
        calls[0].set_result([ENDED, None])
        while len(calls) < 2:
            time.sleep(0.01)
        waiting.confirm(ended.get(timeout=300), 0)
        assert not third.wait(0.3)
        calls[-1].set_result([ENDED])


def test_watcher_that_is_stopped_while_it_connects_ends(cluster, monkeypatch):
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 600)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 600)
    cluster.connecting = [RayConnectionError("not yet")] * 1000
    settings = RaySettings(conn_id="ray_here", host="here", connect_timeout=3000)
    with watching(settings, []) as waiting:
        waiting.subscribe(settings, [Subscription(URI, True, 10.0, lambda *_: None)])
        while len(cluster.connecting) == 1000:
            time.sleep(0.01)
        watcher.stop_all()
        waiting.join(300)
        assert not waiting.is_alive()


def test_totals_that_come_with_news_are_told_as_those_of_the_connection(cluster, monkeypatch):
    told: queue.Queue = queue.Queue()
    monkeypatch.setattr(watcher, "tell_totals", lambda *of_cluster: told.put(of_cluster))
    monkeypatch.setattr(cluster, "behind", [{"totals": {"waiting": 4}}])
    cluster.answers = [ENDED]
    assert news_of() == ENDED
    assert told.get(timeout=300) == (clusters.Cluster("ray_here"), {"waiting": 4})
