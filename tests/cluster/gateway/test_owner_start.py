"""Starts of owners that several clients ask for at the same time, without a cluster."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_ray.cluster.failures import Refusal, refusal
from airflow_ray.cluster.gateway import owner_start
from airflow_ray.cluster.gateway.server import Desk
from airflow_ray.cluster.messages import packed
from airflow_ray.cluster.protocol import OWNER_PREFIX, RefusalKind

START = packed({"namespace": "airflow", "owner": f"{OWNER_PREFIX}1", "bundle": b""})


class Cluster:
    """Owners that live once they were started, which takes until ``go`` is set."""

    def __init__(self) -> None:
        self.starts = 0
        self.go = threading.Event()
        self._lives = False

    def id_of(self, _owner: object) -> str:
        return "1" if self._lives else ""

    def start(self, *_: object) -> None:
        self.starts += 1
        self.go.wait()
        self._lives = True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(owner_start, "start_owner", cluster.start)
    monkeypatch.setattr(owner_start, "SIGN_SECONDS", 0.01)
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


def test_start_goes_on_for_the_next_one_when_who_has_asked_for_it_goes_away(cluster: Cluster, desk: Desk) -> None:
    gone = desk.answers("start", START)
    next(gone)
    gone.close()  # type: ignore[attr-defined]  # As Flight does with what it no longer needs.
    cluster.go.set()
    assert list(desk.answers("start", START))[-1] == packed({})
    assert cluster.starts == 1


def test_owner_whose_start_has_failed_is_started_again(cluster: Cluster, desk: Desk, mocker: MockerFixture) -> None:
    mocker.patch.object(owner_start, "start_owner", side_effect=refusal(RefusalKind.REFUSED, "no room"))
    with pytest.raises(Refusal):
        list(desk.answers("start", START))
    mocker.patch.object(owner_start, "start_owner", cluster.start)
    cluster.go.set()
    assert list(desk.answers("start", START))[-1] == packed({})
    assert cluster.starts == 1


def test_who_waits_for_the_start_of_another_is_given_signs(cluster: Cluster, desk: Desk) -> None:
    first, second = (desk.answers("start", START) for _ in range(2))
    assert [next(first), next(second), next(second)] == [b""] * 3
    cluster.go.set()
    assert list(first)[-1] == list(second)[-1] == packed({})
