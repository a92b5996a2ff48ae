"""A small part of something large in the store of a cluster, and in a checkpoint there."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

ROWS = 1_000_000
SMALL_BYTES = 100_000


def parts() -> Any:
    return {"batch": [pa.record_batch({"a": pa.array(range(ROWS))}).slice(5, 100)]}


def test_part_takes_little_of_the_store_and_of_a_checkpoint(hook, uri, tmp_path):
    hook.submit(parts, uri=uri, checkpoint=True, checkpoint_path=f"file://{tmp_path}")
    output = hook.wait(uri)["outputs"]["return_value"]
    assert output["bytes"] < SMALL_BYTES
    assert output["checkpoint"]["bytes"] < SMALL_BYTES
    assert hook.get(uri)["batch"][0].column(0).to_pylist() == list(range(5, 105))


def test_part_that_is_put_takes_little_of_the_store(hook, uri):
    hook.put(parts(), uri=uri)
    assert hook.describe(uri)["outputs"]["return_value"]["bytes"] < SMALL_BYTES


def test_table_of_views_is_put(head):
    uri = new_uri("ray_gateway")
    table = pa.table({"view": pa.array(["a", None, "ä"], pa.string_view())})
    with RayHook("ray_gateway").connect() as hook:
        hook.put(table, uri=uri)
        assert hook.get(uri).equals(table)


def test_part_among_the_arguments_arrives(hook, uri):
    hook.submit(lambda given: given["batch"][0].num_rows, parts(), uri=uri)
    hook.wait(uri)
    assert hook.get(uri) == 100
