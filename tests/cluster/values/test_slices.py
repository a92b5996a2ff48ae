"""A small part of something large is pickled, kept and sent as a small part."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from ray import cloudpickle

from airflow_ray.cluster.checkpoints import load, save
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.values import as_shown, compacted

ROWS = 200_000
SMALL_BYTES = 60_000
URI = "ray-object://ray/dag/run/task/-1/return_value"
KEYS = ["ab" * 32]
NUMBERS = pa.array(np.arange(ROWS))
TEXT = pa.array([f"a text of some length {number}" for number in range(ROWS)])
VIEWS = TEXT.cast(pa.string_view())
TENS = pa.array(np.arange(0, ROWS, 10), pa.int32())
FRAME = pl.DataFrame({"a": NUMBERS, "b": TEXT})
STRUCTS = FRAME.select(pl.struct("a", "b").alias("s"))

ARROW: dict[str, Callable[[], Any]] = {
    "numbers": lambda: NUMBERS,
    "text": lambda: TEXT,
    "views of text": lambda: VIEWS,
    "booleans": lambda: pa.array(np.arange(ROWS * 20) % 2 == 0),
    "list": lambda: pa.ListArray.from_arrays(TENS, NUMBERS),
    "list of views of text": lambda: pa.ListArray.from_arrays(TENS, VIEWS),
    "list view": lambda: pa.ListViewArray.from_arrays(TENS, pa.array(np.full(len(TENS), 10), pa.int32()), NUMBERS),
    "list of fixed size": lambda: pa.FixedSizeListArray.from_arrays(NUMBERS, 10),
    "struct": lambda: pa.StructArray.from_arrays([NUMBERS, TEXT], ["a", "b"]),
    "struct with views of text": lambda: pa.StructArray.from_arrays([VIEWS], ["a"]),
    "map": lambda: pa.MapArray.from_arrays(TENS, TEXT, NUMBERS),
    "dense union": lambda: pa.UnionArray.from_dense(
        pa.array(np.zeros(ROWS, "i1")), pa.array(np.arange(ROWS, dtype="i4")), [NUMBERS]
    ),
    "run ends": lambda: pa.RunEndEncodedArray.from_arrays(pa.array(np.arange(1, ROWS + 1, dtype="i4")), TEXT),
    "extension": lambda: pa.ExtensionArray.from_storage(pa.json_(pa.string()), TEXT),
    "record batch": lambda: pa.record_batch({"a": NUMBERS, "b": TEXT}),
    "column of several arrays": lambda: pa.chunked_array([NUMBERS, NUMBERS]),
    "table": lambda: pa.table({"a": NUMBERS, "b": TEXT}),
    "table with views of text": lambda: pa.table({"a": VIEWS}),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "polars frame": lambda: FRAME[10:110],
    "polars column": lambda: FRAME["b"][10:110],
    "polars frame with structs": lambda: STRUCTS[10:110],
    "polars column of structs": lambda: STRUCTS["s"][10:110],
    "polars frame with lists": lambda: FRAME.group_by(pl.col("a") // 10, maintain_order=True).agg("b")[10:110],
    "pandas frame": lambda: FRAME.to_pandas().iloc[10:110],
    "pandas frame of Arrow": lambda: FRAME.to_pandas(use_pyarrow_extension_array=True).iloc[10:110],
    "pandas frame with an index of text": lambda: FRAME.to_pandas().set_index("b").iloc[10:110],
    "pandas column of text": lambda: FRAME.to_pandas()["b"].astype("string[pyarrow]").iloc[10:110],
    "NumPy rows": lambda: NUMBERS.to_numpy().reshape(-1, 10)[10:110],
    "NumPy columns": lambda: np.asfortranarray(NUMBERS.to_numpy().reshape(10, -1))[:, 10:110],
    "NumPy field": lambda: np.zeros(ROWS, dtype=[("a", "i8"), ("b", "f8")])["a"][:100],
    "masked array": lambda: np.ma.masked_greater(NUMBERS.to_numpy(), 20)[10:110],
}
PARTS = {**{name: lambda make=make: make().slice(10, 100) for name, make in ARROW.items()}, **OTHERS}


def shipped(value: Any) -> tuple[int, Any]:
    """Return how large a value is where it is sent, and what arrives."""
    file, buffers = io.BytesIO(), []
    with as_shown():
        cloudpickle.CloudPickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    arrived = pickle.loads(file.getvalue(), buffers=buffers)
    return len(file.getvalue()) + sum(buffer.raw().nbytes for buffer in buffers), arrived


def require_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, (pd.DataFrame, pd.Series)):
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other))
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one.equals(other)


@pytest.mark.parametrize("name", PARTS)
def test_part_is_sent_as_small_as_it_is_also_inside_of_others(name):
    part = PARTS[name]()
    size, arrived = shipped({"key": [(part,)]})
    assert size < SMALL_BYTES
    require_equal(arrived["key"][0][0], part)


@pytest.mark.parametrize("name", PARTS)
def test_checkpoint_of_a_part_is_as_small_as_it_is(name, tmp_path):
    part = PARTS[name]()
    storage = Storage(f"file://{tmp_path}", {})
    assert save(storage, URI, part, KEYS)["bytes"] < SMALL_BYTES
    require_equal(load(storage, URI, KEYS)[0], part)


def test_checkpoint_of_views_of_text_is_not_larger_than_they_are(tmp_path):
    saved = save(Storage(f"file://{tmp_path}", {}), URI, pa.table({"a": pa.concat_arrays([VIEWS] * 3)}), KEYS)
    assert saved["bytes"] < 3.1 * VIEWS.get_total_buffer_size()


def test_array_that_shows_all_that_it_holds_is_not_copied():
    assert compacted(NUMBERS) is NUMBERS


def test_ray_pickles_as_before_afterwards():
    before = dict(cloudpickle.CloudPickler.dispatch)
    with as_shown():
        pass
    assert dict(cloudpickle.CloudPickler.dispatch) == before
