"""What the tests of checkpoints on a cluster share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tests.ray_head import RayHead

CONNECTION = "ray_checkpointed"


class Cluster:
    """A Ray head that can be lost and started again at the same address."""

    def __init__(self) -> None:
        self.head = RayHead()

    def lose(self) -> None:
        """End the head as the loss of its machine does, and start an empty one in its place."""
        self.head.kill()
        gateway = self.head.gateway
        self.head = RayHead(self.head.ports)
        if gateway is not None:
            self.head.start_gateway(*gateway)


def connection_of(head: RayHead, mode: str, **extra: str) -> str:
    """Return a connection of type ray as JSON: with ``/`` in a value, Airflow takes no URI for one."""
    address = urlsplit(getattr(head, f"{mode}_uri"))
    fields = {"conn_type": "ray", "host": "127.0.0.1", "port": address.port, "password": address.password}
    return json.dumps({**fields, "extra": {"mode": mode, **extra}})


def make_frame(rows: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"a": range(rows), "b": pd.Categorical(["x"] * rows)})


def total(frame: Any) -> int:
    return int(frame["a"].sum())


def produced(*args: Any, fn: Callable[..., Any] = make_frame, **options: Any) -> ObjectURI:
    """Run ``fn`` with a checkpoint and return the URI of what it returned."""
    uri = new_uri(CONNECTION, "make")
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(fn, *args, uri=uri, **{"checkpoint": True, **options})
        hook.wait(uri)
    return uri


def consumed(uri: ObjectURI, fn: Callable[..., Any] = total, **options: Any) -> tuple[Any, str]:
    """Run ``fn`` on an object and return its value and the source of its input."""
    of_consumer = new_uri(CONNECTION, "use")
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(fn, uri, uri=of_consumer, **options)
        record = hook.wait(of_consumer)
        return hook.get(of_consumer), record["inputs"][0]["source"]
