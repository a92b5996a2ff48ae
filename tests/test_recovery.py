"""Lose a worker, a node, the owner or the whole cluster: the next task still gets its input."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.ray_head import RayHead
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the server, for which the AWS connection ``s3`` has the credentials."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection())
    return s3.new_bucket()


class Cluster:
    """A Ray head that can be lost and started again at the same address."""

    def __init__(self) -> None:
        self.head = RayHead()

    def lose(self) -> None:
        """End the head as the loss of its machine does, and start an empty one in its place."""
        self.head.kill()
        self.head = RayHead(self.head.ports)


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.head.stop()


@pytest.fixture(params=["client", "driver"])
def cluster(request, running_cluster, monkeypatch, bucket) -> Cluster:
    """A cluster whose connection ``ray`` names the bucket for checkpoints, over Ray Client and as a driver."""
    client = request.param == "client"
    connection = {
        "conn_type": "ray",
        "host": "127.0.0.1",
        "port": running_cluster.head.ports[1 if client else 0],
        "extra": {"mode": request.param, "checkpoint_path": f"s3://{bucket}/checkpoints", "checkpoint_conn_id": "s3"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_RAY_CHECKPOINTED", json.dumps(connection))
    return running_cluster


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"a": range(rows), "b": pd.Categorical(["x"] * rows)})


def total(frame):
    return int(frame["a"].sum())


def produced(*args, fn=make_frame, **options):
    uri = new_uri("ray_checkpointed", "make")
    with RayHook("ray_checkpointed").connect() as hook:
        hook.submit(fn, *args, uri=uri, checkpoint=True, **options)
        hook.wait(uri, timeout=60)
    return uri


def consumed(uri, fn=total):
    """Run ``fn`` on an object and return its value and the source of its input."""
    of_consumer = new_uri("ray_checkpointed", "sum")
    with RayHook("ray_checkpointed").connect() as hook:
        hook.submit(fn, uri, uri=of_consumer)
        record = hook.wait(of_consumer, timeout=60)
        return hook.get(of_consumer), record["inputs"][0]["source"]


def test_input_comes_from_the_store_while_it_is_there(cluster):
    assert consumed(produced(1000)) == (499_500, "store")


def test_input_comes_from_the_checkpoint_after_the_loss_of_the_cluster(cluster):
    uri = produced(1000)
    cluster.lose()
    assert consumed(uri) == (499_500, "checkpoint")


def test_restored_object_is_an_ordinary_object_of_the_new_owner(cluster):
    uri = produced(1000)
    cluster.lose()
    consumed(uri)
    assert consumed(uri) == (499_500, "store")
    assert RayHook("ray_checkpointed").describe(uri)["outputs"]["return_value"]["shape"] == [1000, 2]


def test_input_comes_from_the_checkpoint_after_the_loss_of_the_owner(cluster):
    uri = produced(1000)
    (owner,) = cluster.head.processes("ray::Owner")
    owner.kill()
    assert consumed(uri) == (499_500, "checkpoint")


def test_get_restores_a_lost_object(cluster):
    uri = produced(1000)
    cluster.lose()
    assert RayHook("ray_checkpointed").get(uri).shape == (1000, 2)


def test_one_of_several_outputs_is_restored(cluster):
    uri = produced(fn=lambda: {"train": [1], "täst/1": [2]}, multiple_outputs=True)
    cluster.lose()
    assert consumed(uri.with_key("täst/1"), fn=sum) == (2, "checkpoint")
