"""When a call counts as one that nothing is heard of."""

from __future__ import annotations

import math
import threading

import pytest

from airflow_ray.client.connection import signs
from airflow_ray.client.connection.signs import Signs
from airflow_ray.exceptions import RayConnectionError


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(signs, "CHECK_SECONDS", 0.01)


def test_call_that_gives_no_sign_is_given_up():
    never = threading.Event()
    with pytest.raises(RayConnectionError, match="no sign of life"):
        Signs().start(lambda note: never.wait(60), 0.05).result(300)
    never.set()


def test_call_that_says_that_the_next_sign_may_take_longer_is_not_given_up():
    watched, given_up = Signs(), threading.Event()

    def slow(note):
        note(math.inf)
        # Another one that is given up meanwhile shows that this one was looked at.
        other = watched.start(lambda _: given_up.wait(60), 0.05)
        assert isinstance(other.exception(60), RayConnectionError)
        return "done"

    try:
        assert watched.start(slow, 0.05).result(300) == "done"
    finally:
        given_up.set()
