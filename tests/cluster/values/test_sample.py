"""The columns and first rows of each kind of value, as a page shows them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airflow_ray.cluster.values.description import MAX_COLUMNS, describe_value
from airflow_ray.cluster.values.sample import MAX_CELL, MAX_SCHEMA, MAX_TEXT, sample
from airflow_ray.cluster.values.sample import MAX_COLUMNS as MAX_SHOWN

DATA = {"name": ["größe", None, "<b>"], "n": [1, 2, 3]}
TABLES = {
    "pandas": pd.DataFrame(DATA, dtype=object),
    "polars": pl.DataFrame(DATA),
    "arrow": pa.table(DATA),
    "record batch": pa.RecordBatch.from_pydict(DATA),
}


@pytest.mark.parametrize("kind", TABLES)
def test_table_is_shown_by_its_first_rows(kind):
    seen = sample(TABLES[kind], 2)
    assert seen["head"] == ["", "name", "n"]
    assert seen["rows"] == [["0", "größe", "1"], ["1", "None", "2"]]
    assert [name for name, _ in seen["columns"]] == ["name", "n"]
    assert all(dtype for _, dtype in seen["columns"])
    assert seen["shape"] == [3, 2]


@pytest.mark.parametrize("series", [pd.Series([1, 2], name="n"), pl.Series("n", [1, 2])], ids=["pandas", "polars"])
def test_series_is_shown_as_a_table_of_one_column(series):
    seen = sample(series, 1)
    assert (seen["head"], seen["rows"]) == (["", "n"], [["0", "1"]])
    assert seen["columns"] == [("n", str(series.dtype))]


def test_table_is_shown_with_its_index_and_names_that_are_no_texts():
    frame = pd.DataFrame([[1, 2]], columns=[("a", 1), 7], index=pd.to_datetime(["2026-01-01"]))
    seen = sample(frame, 5)
    assert (seen["head"], seen["rows"]) == (["", "('a', 1)", "7"], [["2026-01-01 00:00:00", "1", "2"]])


def test_columns_of_the_same_name_are_all_shown():
    seen = sample(pd.DataFrame([[1, 2]], columns=["a", "a"]), 1)
    assert (seen["head"], seen["rows"]) == (["", "a", "a"], [["0", "1", "2"]])


def test_wide_table_is_cut_and_tells_its_shape():
    seen = sample(pd.DataFrame(np.zeros((2, 1000))), 5)
    assert (len(seen["head"]), len(seen["columns"]), seen["shape"]) == (MAX_SHOWN + 1, MAX_SCHEMA, [2, 1000])


def test_long_texts_and_large_values_in_cells_are_cut():
    frame = pd.DataFrame({"text": ["x" * 10_000], "items": [list(range(10_000))], "bytes": [b"x" * 10_000]})
    (row,) = sample(frame, 1)["rows"]
    assert all(len(cell) <= MAX_CELL for cell in row)


@pytest.mark.parametrize("value", [np.arange(10_000), {"a": 1}, "x" * 100_000, object(), None, 7])
def test_what_is_no_table_is_shown_as_text(value):
    seen = sample(value, 5)
    assert seen["columns"] == []
    assert 0 < len(seen["text"]) <= MAX_TEXT


@pytest.mark.parametrize("kind", TABLES)
def test_table_without_rows_has_its_columns(kind):
    table = TABLES[kind]
    empty = table.head(0) if hasattr(table, "head") else table.slice(0, 0)
    seen = sample(empty, 5)
    assert (seen["head"], seen["rows"]) == (["", "name", "n"], [])


@pytest.mark.parametrize("kind", TABLES)
def test_sample_is_plain_data(kind):
    assert json.loads(json.dumps(sample(TABLES[kind], 2)))["head"] == ["", "name", "n"]


def test_description_names_the_first_columns_of_a_table_with_their_types():
    described = describe_value(pd.DataFrame({str(number): [1.0] for number in range(100)}))
    assert described["columns"] == [(str(number), "float64") for number in range(MAX_COLUMNS)]


def test_description_of_what_is_no_table_has_no_columns():
    assert "columns" not in describe_value(np.zeros(3))


def test_text_of_a_class_of_the_users_is_plain_text_for_who_is_shown_it():
    class Text(str):
        """What only the process of the user can unpickle."""

    (row,) = sample(pd.DataFrame({"a": [Text("x")]}), 1)["rows"]
    assert list(map(type, row)) == [str, str]
