"""Starts of owners that several clients ask for at the same time, without a cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ray.cluster.gateway import server
from airflow_ray.cluster.gateway.server import Desk
from airflow_ray.cluster.messages import packed
from airflow_ray.cluster.protocol import OWNER_PREFIX

START = packed({"namespace": "airflow", "owner": f"{OWNER_PREFIX}1", "bundle": b""})


class Cluster:
    """Owners that live once they were started, which takes until ``go`` is set."""

    def __init__(self) -> None:
        self.starts = 0
        self.go = threading.Event()
        self._lives = False

    def id_of(self, _owner: object) -> str:
        return "1" if self._lives else ""

    def start(self, *_: object) -> Iterator[None]:
        self.starts += 1
        while not self.go.wait(0.01):
            yield
        self._lives = True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(server, "start_owner", cluster.start)
    monkeypatch.setattr(server, "SIGN_SECONDS", 0.01)
    return cluster


@pytest.fixture
def desk(cluster: Cluster) -> Any:
    place: Any = SimpleNamespace(socket="/socket")
    owners: Any = cluster
    return Desk(owners, place, "127.0.0.1:6379", "1.0")


def test_owner_that_several_ask_for_is_started_once(cluster: Cluster, desk: Desk) -> None:
    asked = [desk.answers("start", START) for _ in range(4)]
    # All have asked before one is done.
    assert [next(each) for each in asked] == [b""] * 4
    cluster.go.set()
    assert {list(each)[-1] for each in asked} == {packed({})}
    assert cluster.starts == 1


def test_who_goes_away_while_it_starts_an_owner_keeps_nobody_from_it(cluster: Cluster, desk: Desk) -> None:
    gone = desk.answers("start", START)
    next(gone)
    gone.close()  # type: ignore[attr-defined]  # As Flight does with what it no longer needs.
    cluster.go.set()
    assert list(desk.answers("start", START))[-1] == packed({})
    assert cluster.starts == 2


def test_who_waits_for_the_start_of_another_is_given_signs(cluster: Cluster, desk: Desk) -> None:
    first, second = (desk.answers("start", START) for _ in range(2))
    assert [next(first), next(second), next(second)] == [b""] * 3
    cluster.go.set()
    assert list(first)[-1] == list(second)[-1] == packed({})
