"""Large values of a connection over Ray Client, for which the gateway's port is open too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Timer
from urllib.parse import urlsplit

import numpy as np
import pytest

from airflow_ray.client.connection import as_client, gateway_session
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.proxy import FaultyProxy
from tests.ray_head import RayHead

CONNECTION = "ray_two_ports"
WORDS = "Large values go through the gateway"


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch) -> None:
    monkeypatch.setattr(as_client, "LARGE_BYTES", 1_000_000)


@pytest.fixture
def gateway_port(head: RayHead) -> int:
    port = urlsplit(head.gateway_uri).port
    assert port is not None
    return port


@pytest.fixture
def proxy(gateway_port: int) -> Iterator[FaultyProxy]:
    """Stands before the gateway."""
    proxy = FaultyProxy(gateway_port)
    yield proxy
    proxy.close()


@pytest.fixture
def hook_with_gateway_at(head: RayHead, monkeypatch):
    """Return a function that makes a hook whose cluster has its gateway at some port."""
    token = urlsplit(head.gateway_uri).password

    def hook(port: int, host: RayHead = head) -> RayHook:
        monkeypatch.setattr(gateway_session, "PORT", port)
        fields = {"host": "127.0.0.1", "port": host.ports[1], "password": token, "extra": {"mode": "client"}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps({"conn_type": "ray", **fields}))
        return RayHook(CONNECTION)

    return hook


def moved_there_and_back(hook: RayHook) -> bool:
    """Send an array, have a task read it, and fetch it again; return whether it is the same."""
    array, uri, of_task = np.arange(500_000.0), new_uri(CONNECTION), new_uri(CONNECTION)
    with hook.connect():
        hook.put(array, uri=uri)
        hook.submit(lambda each: float(each.sum()), uri, uri=of_task)
        hook.wait(of_task)
        return bool(hook.get(of_task) == array.sum() and np.array_equal(hook.get(uri), array))


def test_they_go_through_the_gateway(hook_with_gateway_at, gateway_port, caplog):
    with caplog.at_level("INFO"):
        assert moved_there_and_back(hook_with_gateway_at(gateway_port))
    assert f"{WORDS} at 127.0.0.1:{gateway_port}" in caplog.text


@pytest.mark.slow
def test_they_go_over_ray_client_where_nothing_answers_at_the_port_of_the_gateway(hook_with_gateway_at, caplog):
    with caplog.at_level("INFO"):
        assert moved_there_and_back(hook_with_gateway_at(free_ports(1)[0]))
    assert WORDS not in caplog.text


def test_they_go_over_ray_client_where_the_gateway_breaks_off(hook_with_gateway_at, proxy, caplog):
    proxy.fault, proxy.after_bytes = "cut", 200_000
    assert moved_there_and_back(hook_with_gateway_at(proxy.port))
    assert "Going on over Ray Client" in caplog.text


@pytest.mark.slow
def test_they_go_through_a_gateway_that_is_too_busy_to_answer_at_once(hook_with_gateway_at, proxy, caplog):
    proxy.network.clear()
    answers_again = Timer(6, proxy.network.set)
    answers_again.start()
    with caplog.at_level("INFO"):
        assert moved_there_and_back(hook_with_gateway_at(proxy.port))
    assert f"{WORDS} at 127.0.0.1:{proxy.port}" in caplog.text
    answers_again.join()


@pytest.mark.slow
def test_a_large_callable_goes_through_the_gateway(hook_with_gateway_at, gateway_port, caplog):
    text, uri = "x" * 3_000_000, new_uri(CONNECTION)
    hook = hook_with_gateway_at(gateway_port)
    with caplog.at_level("INFO"), hook.connect():
        hook.submit(lambda: len(text), uri=uri)
        hook.wait(uri)
        assert hook.get(uri) == 3_000_000
    assert WORDS in caplog.text


@pytest.mark.slow
def test_what_has_ray_objects_inside_goes_over_ray_client(hook_with_gateway_at, gateway_port, caplog):
    import ray

    uri, hook = new_uri(CONNECTION), hook_with_gateway_at(gateway_port)
    with caplog.at_level("INFO"), hook.connect():
        with hook.client.link.session.active():
            inside = ray.put("inside")
        hook.put([inside, "x" * 3_000_000], uri=uri)
    assert WORDS not in caplog.text


@pytest.mark.slow
def test_they_do_not_go_through_the_gateway_of_another_cluster(hook_with_gateway_at, gateway_port, caplog):
    other = RayHead()
    try:
        with caplog.at_level("INFO"):
            assert moved_there_and_back(hook_with_gateway_at(gateway_port, other))
    finally:
        other.stop()
    assert WORDS not in caplog.text
