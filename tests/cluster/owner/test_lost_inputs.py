"""Inputs that are lost with a node, while several tasks take them."""

from __future__ import annotations

import pytest

from airflow_ray.exceptions import RayObjectLostError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.ray_head import RayHead


@pytest.fixture
def cluster(monkeypatch):
    # Ray takes half a minute by default to notice that a node has gone.
    head = RayHead(RAY_health_check_period_ms="500", RAY_health_check_failure_threshold="2")
    monkeypatch.setenv("AIRFLOW_CONN_RAY_LOSING", head.client_uri)
    yield head
    head.stop()


def _make(size):
    return b"x" * size


def _measure(first, second):
    return len(first) + len(second)


@pytest.mark.slow
def test_two_tasks_that_take_two_lost_inputs_both_end_and_name_them(cluster):
    node = cluster.add_node(away=2)
    made = [new_uri("ray_losing", name) for name in ("first", "second")]
    takers = [new_uri("ray_losing", name) for name in ("third", "fourth")]
    with RayHook("ray_losing").connect() as hook:
        for uri in made:
            hook.submit(_make, 2_000_000, uri=uri, resources={"away": 1}, max_retries=0)
            hook.wait(uri)
        node.kill()
        for uri in takers:
            hook.submit(_measure, *map(str, made), uri=uri)
        for uri in takers:
            with pytest.raises(RayObjectLostError):
                hook.wait(uri)
        with pytest.raises(RayObjectLostError, match="first"):
            hook.client.is_available(made[0])
