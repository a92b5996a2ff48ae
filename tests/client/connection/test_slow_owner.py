"""An owner that takes longer to start than a connection may take, behind a gateway that says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pyarrow import flight

from airflow_ray.cluster.gateway.calls import greeting
from airflow_ray.cluster.messages import packed
from airflow_ray.exceptions import RayConnectionError
from airflow_ray.hooks.ray import RayHook


class Gateway(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Greets whoever comes, and gives a sign of life while it starts an owner, which takes until it ends itself."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.ended = threading.Event()

    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
        if action.type == "greet":
            yield packed({**greeting("0.1.0"), "owner": "", "others": []})
            return
        yield b""
        self.ended.wait()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway
        gateway.ended.set()


def test_owner_that_takes_too_long_to_start_is_told_apart_from_a_gateway_that_does_not_answer(gateway, monkeypatch):
    uri = f"ray://:a-token-of-the-tests@127.0.0.1:{gateway.port}?mode=gateway&connect_timeout=5"
    monkeypatch.setenv("AIRFLOW_CONN_RAY_SLOW", uri)
    words = r"answers, and the process that runs the work has not started there within \d s\..* Set a longer"
    with pytest.raises(RayConnectionError, match=words), RayHook("ray_slow").connect():
        pass
