"""What Ray itself says of whether a cluster is in use, by which others decide whether it may go."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.request import urlopen

import pytest

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.cluster.owner import retirement
from airflow_ray.exceptions import RayOwnerDiedError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.ui.asking import ask
from tests.conftest import new_uri
from tests.ray_head import RayHead

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head():
    head = RayHead(dashboard_port=free_ports(1)[0])
    with pytest.MonkeyPatch.context() as patch:
        # It goes along with the owner, which a Ray Client starts from the code of this process.
        # A busy machine takes seconds from its start to the first call.
        patch.setattr(retirement, "IDLE_SECONDS", 10.0)
        patch.setattr(retirement, "LOOK_SECONDS", 0.2)
        patch.setenv("AIRFLOW_CONN_RAY_IDLE_CLIENT", head.client_uri)
        patch.setenv("AIRFLOW_CONN_RAY_IDLE_GATEWAY", head.gateway_uri)
        yield head
    head.stop()


@pytest.fixture(autouse=True)
def no_owner_that_waits_longer(head):
    """End one that was started through the gateway: it has the code of this release, and would take two minutes."""
    _ = head.gateway_uri
    for process in head.processes("ray::Owner"):
        process.kill()


def drivers(head: RayHead) -> int:
    """Return how many drivers count as use of the cluster."""
    with urlopen(f"http://127.0.0.1:{head.dashboard_port}/api/component_activities", timeout=30) as answer:
        told = json.load(answer)["driver"]
    assert told["is_active"] == ("ACTIVE" if told["reason"] else "INACTIVE")
    return int((told["reason"] or "0").rpartition(" ")[2])


def wait_until(is_so):
    while not is_so():
        time.sleep(0.1)


def owners(head: RayHead) -> list[int]:
    return [process.pid for process in head.processes("ray::Owner")]


def test_cluster_is_in_use_while_there_is_work_or_an_object_and_not_otherwise(head, tmp_path):
    def wait(go):
        while not go.exists():
            time.sleep(0.05)
        return "made"

    uri = new_uri("ray_idle_client")
    with RayHook("ray_idle_client").connect() as hook:
        hook.submit(wait, tmp_path / "go", uri=uri)
    wait_until(lambda: drivers(head) == 1)
    (owner,) = owners(head)
    (tmp_path / "go").touch()
    with RayHook("ray_idle_client").connect() as hook:
        hook.wait(uri)
    wait_until(lambda: drivers(head) == 1)
    assert owners(head) == [owner]
    with RayHook("ray_idle_client").connect() as hook:
        assert hook.release(uri) == [uri]
    wait_until(lambda: drivers(head) == 0)
    wait_until(lambda: not owners(head))


@pytest.mark.parametrize("conn_id", ["ray_idle_client", "ray_idle_gateway"])
def test_connection_that_stays_open_goes_on_after_an_end_of_the_idle_owner(head, conn_id):
    with RayHook("ray_idle_client").connect() as first:
        # Keeps the owner that ends soon until the other connection is there, which would start one that ends later.
        kept = first.put(1, uri=new_uri("ray_idle_client"))
        with RayHook(conn_id).connect() as hook:
            assert len(hook.list_objects()) == 1
            first.release(kept)
            wait_until(lambda: not owners(head))
            uri = hook.put({"a": 1}, uri=new_uri(conn_id))
            assert hook.get(uri) == {"a": 1}
            hook.release(uri)


def test_look_of_a_page_keeps_no_idle_cluster_awake_however_long_it_takes(head):
    uri = new_uri("ray_idle_client")
    with RayHook("ray_idle_client").connect() as hook:
        hook.put(1, uri=uri)

    def look(client):
        looking = client.link.session.begin("watch", "page", [], 600.0)
        assert len(client.list_objects()) == 1
        RayHook("ray_idle_client").release(uri)
        wait_until(lambda: not owners(head))
        with pytest.raises(RayOwnerDiedError):
            looking.result(300)
        # What the page shows then starts nobody.
        return client.survey()["nodes"], client.list_objects(), owners(head)

    answer = asyncio.run(ask("ray_idle_gateway", look, seconds=300))
    assert (answer.value, answer.problem) == ((1, [], []), None)
