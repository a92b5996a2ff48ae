"""The one connection as a driver that a process can have."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from airflow_ray.client.connection import as_driver
from airflow_ray.client.connection.as_driver import _Driver
from airflow_ray.client.connection.authentication import Authentication
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.exceptions import RayConnectionError

HERE, THERE = "here:6379", "there:6379"


class FakeRay:
    """Takes the place of Ray: joining one address lasts until ``answers`` is set."""

    def __init__(self) -> None:
        self.joining = threading.Event()
        self.answers = threading.Event()
        self.left = threading.Event()
        self.joined: list[str] = []
        self.memory_in_use = False

    def init(self, address, authentication, namespace) -> ExitStack:
        if address == HERE:
            self.joining.set()
            self.answers.wait()
        self.joined.append(address)
        return ExitStack()


@pytest.fixture
def fake_ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr(as_driver, "_init_driver", fake.init)
    # The last step of leaving.
    monkeypatch.setattr(as_driver, "read_again", fake.left.set)
    monkeypatch.setattr(as_driver, "probe_control_service", lambda *args: None)
    monkeypatch.setattr(as_driver, "_sees_object_store", lambda: fake.memory_in_use)
    monkeypatch.setattr(as_driver, "_driver", _Driver())
    monkeypatch.setattr(as_driver, "DriverSession", lambda namespace, active, deadline: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    return fake


def connect(address: str, timeout: float = 30) -> None:
    with as_driver.join(address, Authentication(), "tests", timeout):
        pass


def test_who_waits_for_a_connection_that_hangs_is_told_after_its_own_deadline(fake_ray):
    hanging = start_in_thread(lambda: connect(HERE))
    assert fake_ray.joining.wait(300)
    with pytest.raises(RayConnectionError, match="Ray does only one of that at a time"):
        connect(THERE, timeout=0.2)
    assert not hanging.done()
    fake_ray.answers.set()
    hanging.result(300)


def test_connection_that_comes_too_late_is_closed(fake_ray, monkeypatch):
    monkeypatch.setattr(as_driver, "TURN_SECONDS", 0.0)
    with pytest.raises(RayConnectionError, match="No connection"):
        connect(HERE, timeout=0.2)
    fake_ray.answers.set()
    assert fake_ray.left.wait(300)


def test_connection_ends_with_its_last_session(fake_ray):
    fake_ray.answers.set()
    with as_driver.join(HERE, Authentication(), "tests", 30):
        connect(HERE)
        assert not fake_ray.left.is_set()
    assert fake_ray.left.is_set()


def test_connection_stays_while_values_lie_in_the_object_store(fake_ray):
    fake_ray.answers.set()
    as_driver._driver.has_read = fake_ray.memory_in_use = True
    connect(HERE)
    connect(HERE)
    assert (fake_ray.joined, fake_ray.left.is_set()) == ([HERE], False)


def test_connection_is_made_anew_when_no_value_is_in_use_any_more(fake_ray):
    fake_ray.answers.set()
    as_driver._driver.has_read = fake_ray.memory_in_use = True
    connect(HERE)
    fake_ray.memory_in_use = False
    connect(HERE)
    assert fake_ray.joined == [HERE, HERE]


def test_other_cluster_is_refused_while_values_lie_in_the_object_store_of_one(fake_ray):
    fake_ray.answers.set()
    as_driver._driver.has_read = fake_ray.memory_in_use = True
    connect(HERE)
    with pytest.raises(RayConnectionError, match="copy what you need of them"):
        connect(THERE)


def test_other_cluster_is_joined_when_no_value_is_in_use_any_more(fake_ray):
    fake_ray.answers.set()
    as_driver._driver.has_read = fake_ray.memory_in_use = True
    connect(HERE)
    fake_ray.memory_in_use = False
    connect(THERE)
    assert fake_ray.joined == [HERE, THERE]


def test_other_cluster_is_refused_while_a_session_is_open(fake_ray):
    fake_ray.answers.set()
    with (
        as_driver.join(HERE, Authentication(), "tests", 30),
        pytest.raises(RayConnectionError, match="one cluster for each process"),
    ):
        connect(THERE)
