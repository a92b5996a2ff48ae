"""What is sent to a gateway whose cluster has other releases, by a server that says so of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyarrow import flight

from airflow_ray.cluster.gateway.calls import greeting
from airflow_ray.cluster.messages import packed
from airflow_ray.exceptions import RayVersionMismatchError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri


class Gateway(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Greets whoever comes, and notes what it is asked."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.releases: dict[str, str] = {}
        self.asked: list[str] = []

    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
        self.asked.append(action.type)
        yield packed({**greeting("0.1.0"), **self.releases, "owner": True, "others": []})


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with Gateway() as gateway:
        uri = f"ray://:a-token-of-the-tests@127.0.0.1:{gateway.port}?mode=gateway"
        monkeypatch.setenv("AIRFLOW_CONN_RAY_OTHER", uri)
        yield gateway


@pytest.mark.parametrize(
    ("releases", "words"),
    [
        ({"python": "3.99.1"}, r"runs Python 3\.99\.1 and this process Python .* Nothing was sent"),
        ({"cloudpickle": "99.0.1"}, r"the Ray of the cluster has cloudpickle 99\.0\.1.* Nothing was sent"),
    ],
)
def test_callable_that_the_cluster_cannot_read_is_not_sent(gateway, releases, words):
    gateway.releases = releases
    with pytest.raises(RayVersionMismatchError, match=words):
        RayHook("ray_other").submit(len, "abc", uri=new_uri("ray_other"))
    assert gateway.asked == ["greet"]
