"""What kind of value something is: one answer for descriptions, previews, formats and the way through the store."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airflow_ray.cluster.checkpoints.formats import FORMATS
from airflow_ray.cluster.values import describe_value, is_table, kind_of, kinds_of
from airflow_ray.cluster.values.inner_objects import collected


class Prices(pd.DataFrame):
    """A table of a user's own."""


TABLES = [
    pd.DataFrame({"a": [1]}),
    pd.Series([1]),
    pa.table({"a": [1]}),
    pl.DataFrame({"a": [1]}),
    pl.Series([1]),
    np.zeros(3),
]


def stand_in(module, name, *bases, **attributes):
    """Return a value of a class of that module and name, of which the package need not be there."""
    return type(name, bases, {"__module__": module, **attributes})()


@pytest.mark.parametrize("value", TABLES, ids=lambda value: f"{type(value).__module__}.{type(value).__name__}")
def test_table_that_holds_its_data_is_one(value):
    assert is_table(value)


@pytest.mark.parametrize("value", [Prices({"a": [1]}), np.float64(1), pd.Index([1]), [1], "a", None])
def test_other_values_are_no_tables(value):
    assert not is_table(value)


def test_kind_is_exact_and_kinds_count_base_classes():
    value = Prices({"a": [1]})
    assert kind_of(value) == (__name__.partition(".")[0], "Prices")
    assert next(kind for kind in kinds_of(value) if kind[0] == "pandas") == ("pandas", "DataFrame")


def test_class_of_the_same_name_in_another_package_is_another_kind():
    assert not is_table(stand_in("mine.frames", "DataFrame"))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (TABLES[0], "pandas"),
        (TABLES[1], "pandas"),
        (TABLES[2], "arrow"),
        (TABLES[3], "polars"),
        (TABLES[4], "pickle"),
        (TABLES[5], "npy"),
        (np.array([object()]), "pickle"),
        (Prices({"a": [1]}), "pickle"),
    ],
)
def test_format_is_for_exact_kinds(value, name):
    assert next(each.name for each in FORMATS if each.holds(value)) == name


def test_ray_s_own_matrix_has_the_shape_of_what_it_loads():
    matrix = stand_in("xgboost_ray.matrix", "RayDMatrix", n=7, loader=type("Loader", (), {"data": "x.csv"}))
    assert describe_value(matrix)["shape"] == [7]


@pytest.mark.parametrize(
    ("module", "name", "method"),
    [
        ("modin.pandas.dataframe", "DataFrame", "_to_pandas"),
        ("modin.pandas.series", "Series", "_to_pandas"),
        ("ray.data.dataset", "Dataset", "to_pandas"),
    ],
)
def test_frame_that_needs_the_cluster_is_collected(module, name, method):
    frame = stand_in(module, name, **{method: lambda self: "a frame of pandas"})
    assert collected({"a": [frame, 3]}) == {"a": ["a frame of pandas", 3]}


def test_what_comes_with_ray_data_and_is_no_dataset_stays_as_it_is():
    scaler = stand_in("ray.data.preprocessors.scaler", "StandardScaler")
    assert collected(scaler) is scaler


def test_question_imports_no_package():
    script = (
        "import sys\n"
        "from airflow_ray.cluster.values import describe_value, is_table, preview\n"
        "is_table([1]), describe_value([1]), preview([1], 5, 80)\n"
        "print({'ray', 'pandas', 'numpy', 'pyarrow', 'polars', 'modin'} & set(sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"
