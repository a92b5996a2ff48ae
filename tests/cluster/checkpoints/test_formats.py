"""What is saved comes back equal, for every type that has a format and for all others."""

from __future__ import annotations

import datetime
import zoneinfo
from decimal import Decimal

import hypothesis.extra.pandas as hypothesis_pandas
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import pytz
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from airflow_ray.exceptions import RayPicklingError
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import examples

URI = ObjectURI("ray_default", "tests", "run", "task")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2020, 10, 25, 12, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"))
TIMES = pd.to_datetime(["2020-02-29 12:00:00.123456789", None, "1970-01-01"], format="ISO8601")


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> S3CheckpointHook:
    return S3CheckpointHook(path=f"file://{tmp_path_factory.mktemp('checkpoints')}")


def round_trip(hook, value):
    hook.save(URI, value)
    return hook.load(URI)


def assert_identical(got, expected):
    """Assert that two frames are equal, with the types of the objects in them and of what those hold."""
    assert_frame_equal(got, expected, check_freq=True, check_flags=True, check_exact=True, obj="frame")
    assert got.attrs == expected.attrs
    for i in range(expected.shape[1]):
        if expected.dtypes.iloc[i].kind == "O":
            assert list(map(type, got.iloc[:, i])) == list(map(type, expected.iloc[:, i]))
            assert list(map(repr, got.iloc[:, i])) == list(map(repr, expected.iloc[:, i]))


COLUMNS = {
    "int8": np.array([1, -2, 3], "int8"),
    "uint64": np.array([0, 2**64 - 1, 3], "uint64"),
    "float16": np.array([1.5, np.nan, -0.0], "float16"),
    "float32": np.array([1.5, np.nan, np.inf], "float32"),
    "float64": [0.1, np.nan, -np.inf],
    "bool": [True, False, True],
    "datetime of nanoseconds": TIMES,
    "datetime of seconds": np.array(["2020-01-01", "NaT", "0001-01-01"], "M8[s]"),
    "timedelta": pd.to_timedelta([1, None, -3], unit="s"),
    "zone of zoneinfo": TIMES.tz_localize(zoneinfo.ZoneInfo("Asia/Tokyo")),
    "zone of pytz": TIMES.tz_localize(pytz.timezone("Europe/Berlin")),
    "zone of a fixed offset": TIMES.tz_localize(datetime.timezone(datetime.timedelta(hours=-2, minutes=-30))),
    "zone UTC": TIMES.tz_localize("UTC"),
    "category": pd.Categorical(["b", None, "a"], categories=["b", "unused", "a"]),
    "ordered category of numbers": pd.Categorical([3, 1, None], categories=[3, 2, 1], ordered=True),
    "category of times": pd.Categorical(TIMES.tz_localize("UTC")),
    "nullable integer": pd.array([1, None, 2**62 + 1], dtype="Int64"),
    "nullable unsigned": pd.array([1, None, 255], dtype="UInt8"),
    "nullable boolean": pd.array([True, None, False], dtype="boolean"),
    "nullable float": pd.array([1.5, None, 0.1], dtype="Float64"),
    "string": pd.array(["a", None, "ü"], dtype="string"),
    "string of pyarrow": pd.array(["a", None, ""], dtype="string[pyarrow]"),
    "integer of pyarrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
    "list of pyarrow": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int32()))),
    "dictionary of pyarrow": pd.array(["x", None, "x"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "text": ["a", None, "ü\0"],
    "text with NaN": ["a", np.nan, "b"],
    "text with NA": pd.Series(["a", pd.NA, "b"], dtype=object),
    "bytes": [b"\xff", None, b""],
    "booleans with None": [True, None, False],
    "integers with None": pd.Series([1, None, 3], dtype=object),
    "floats as objects": pd.Series([1.5, None, float("nan")], dtype=object),
    "only None": [None, None, None],
    "decimal": [Decimal("1.50"), None, Decimal("-2.25")],
    "date": [datetime.date(2020, 1, 1), None, datetime.date(1, 1, 1)],
    "time": [datetime.time(1, 2, 3, 4), None, datetime.time(0)],
    "duration": pd.Series([datetime.timedelta(1, 2, 3), None, datetime.timedelta(0)], dtype=object),
    "list": [[1, 2], [], None],
    "list of lists": [[["a"], []], [], None],
    # Earlier releases of Arrow sort the keys, and a dict with others first is a pickle there.
    "list of dicts": [[{"l": [{"x": "a"}], "n": 1}, {"l": [], "n": 2}], [], None],
    "list of moments": [[datetime.datetime(2020, 1, 1, 12)], [], None],
}
PICKLED_COLUMNS = {
    "decimals of several scales": [Decimal("1.5"), Decimal("1.50"), None],
    "array": [np.arange(2), np.arange(3), None],
    "dict": [{"a": 1}, {"b": 2}, None],
    "list of several types": [[1, "a"], [], None],
    "list of dicts with numbers of several types": [[{"n": 1}, {"n": 2.5}], [{"n": 3}], None],
    "list of dicts with decimals of several scales": [[{"n": Decimal("1.5")}, {"n": Decimal("1.50")}], [], None],
    "list of dicts with other keys": [[{"n": 1}, {"m": 2}], [], None],
    "list of moments at several places": [[NOON], [NOON.astimezone(BERLIN)], None],
    "mixed": [1, "a", None],
    "integers and floats": pd.Series([1, 2.0, 3], dtype=object),
    "None and NaN": pd.Series([None, float("nan"), "a"], dtype=object),
    "huge integer": [2**70, 1, 2],
    "lone surrogate": pd.Series(["\ud800", "a", "b"], dtype=object),
    "period": pd.period_range("2020", periods=3),
    "interval": pd.interval_range(0, 3),
    "sparse": pd.arrays.SparseArray([0, 0, 1]),
    "complex": [1j, 2, 3],
    "big-endian": np.array([1, 2, 3], ">i4"),
    "class of the user": [URI, URI, URI],
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
def test_column_comes_back_identical_from_arrow(hook, values):
    frame = pd.DataFrame({"x": values})
    assert_identical(round_trip(hook, frame), frame)
    assert hook.describe(URI)["format"] == "pandas"


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
def test_empty_column_comes_back_identical_from_arrow(hook, values):
    frame = pd.DataFrame({"x": values}).iloc[:0]
    assert_identical(round_trip(hook, frame), frame)
    assert hook.describe(URI)["format"] == "pandas"


@pytest.mark.parametrize("values", PICKLED_COLUMNS.values(), ids=PICKLED_COLUMNS.keys())
def test_column_that_arrow_does_not_hold_exactly_comes_back_identical_from_a_pickle(hook, values):
    frame = pd.DataFrame({"x": values})
    assert_identical(round_trip(hook, frame), frame)
    described = hook.describe(URI)
    assert described["format"] == "pickle"
    assert "stored as a pickle" in described["note"]


FRAMES = {
    "no columns and no rows": pd.DataFrame(),
    "rows without columns": pd.DataFrame(index=range(3)),
    "columns without rows": pd.DataFrame({"a": []}),
    "duplicate columns": pd.DataFrame([[1, 2.0, "x"]], columns=["a", "a", "b"]),
    "numbers as columns": pd.DataFrame([[1, 2.0]], columns=[3, 4]),
    "times as columns": pd.DataFrame([[1, 2, 3]], columns=pd.date_range("2020", periods=3, tz="UTC")),
    "levels of columns": pd.DataFrame(np.eye(4), columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]])),
    "named columns": pd.DataFrame([[1]], columns=pd.Index(["a"], name="columns")),
    "range with a step": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 2, -4, name="r")),
    "text as index": pd.DataFrame({"a": [1, 2]}, index=["x", "x"]),
    "index named by a tuple": pd.DataFrame({"a": [1, 2]}, index=pd.Index([1.5, 2.5], name=("a", 1))),
    "index with levels": pd.DataFrame(
        {"x": range(4)}, index=pd.MultiIndex.from_product([["a", "b"], TIMES[:1].append(TIMES[2:])], names=["p", None])
    ),
    "level with a missing value": pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_arrays([["a", None], [1, 2]])),
    "index of categories": pd.DataFrame({"x": [1, 2]}, index=pd.CategoricalIndex(["b", "a"], name="n")),
    "index with a frequency": pd.DataFrame({"x": [1, 2]}, index=pd.date_range("2020", periods=2, freq="MS", tz="UTC")),
    "index of durations": pd.DataFrame({"x": [1, 2]}, index=pd.timedelta_range("1h", periods=2, freq="2h")),
    "columns of one dtype": pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc")),
    "every column at once": pd.DataFrame({**COLUMNS}),
    "no duplicate labels allowed": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_frame_comes_back_identical_from_arrow(hook, frame):
    assert_identical(round_trip(hook, frame), frame)
    assert hook.describe(URI)["format"] == "pandas"


def test_attributes_of_a_frame_come_back(hook):
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": {"rows": [1, None, 2.5]}}
    assert round_trip(hook, frame).attrs == frame.attrs


def test_series_comes_back_identical(hook):
    series = pd.Series([1.5, np.nan], index=["x", "y"], name=("a", 1))
    assert_series_equal(round_trip(hook, series), series)


def test_frame_of_many_batches_and_files_comes_back_identical(hook):
    rows = 1_000_000
    texts = pd.Series(np.arange(rows)).astype(str)
    frame = pd.DataFrame({"n": np.arange(rows), "s": texts, "c": texts.str[-2:].astype("category")})
    frame.loc[::7, "s"] = None
    assert_identical(round_trip(hook, frame), frame)
    assert hook.describe(URI)["files"] > 3


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10).reshape(2, 5),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(5.0),
        np.zeros((0, 3), "int8"),
        np.array(["a", "ü"]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.zeros(2, [("a", "i4"), ("b", "U3")]),
        np.array([1j, np.nan]),
        np.ones(3_000_000),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_array_comes_back_identical(hook, array):
    got = round_trip(hook, array)
    np.testing.assert_array_equal(got, array, strict=True)
    assert got.flags.f_contiguous == array.flags.f_contiguous
    assert hook.describe(URI)["format"] == "npy"


def test_array_whose_fields_lie_in_another_order_comes_back_identical(hook):
    array = np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])[["b", "a"]]
    np.testing.assert_array_equal(round_trip(hook, array), array, strict=True)


def test_pyarrow_table_comes_back_identical(hook):
    columns = {"a": [1, 2, None], "b": [["x"], None, []], "c": pa.array(["u", "v", "u"]).dictionary_encode()}
    table = pa.table(columns).replace_schema_metadata({"k": "v"})
    assert round_trip(hook, table).equals(table, check_metadata=True)
    assert hook.describe(URI)["format"] == "arrow"


POLARS_FRAMES = {
    "plain": pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [[1], None], "d": [{"f": 1.5}, None]}),
    "times": pl.DataFrame({"t": [datetime.datetime(2020, 1, 1), None]}).with_columns(
        pl.col("t").dt.cast_time_unit("ms")
    ),
    "categories": pl.DataFrame({"c": pl.Series(["a", None, "b"], dtype=pl.Categorical)}),
    "enumeration": pl.DataFrame({"e": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b", "unused"]))}),
    "decimal": pl.DataFrame({"d": pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(10, 2))}),
    "no rows": pl.DataFrame(schema={"a": pl.UInt8, "b": pl.List(pl.String), "n": pl.Null}),
    "no columns": pl.DataFrame(),
}


@pytest.mark.parametrize("frame", POLARS_FRAMES.values(), ids=POLARS_FRAMES.keys())
def test_polars_frame_comes_back_identical(hook, frame):
    got = round_trip(hook, frame)
    assert got.schema == frame.schema
    assert got.equals(frame)
    assert hook.describe(URI)["format"] == "polars"


def test_polars_frame_of_python_objects_which_polars_cannot_write_is_refused(hook):
    frame = pl.DataFrame({"o": pl.Series([URI], dtype=pl.Object)})
    with pytest.raises(RayPicklingError, match="Object is not supported"):
        hook.save(URI, frame)


def test_booster_predicts_as_before(hook):
    x, y = np.random.default_rng(0).random((50, 3)), np.arange(50) % 2
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y), num_boost_round=3)
    got = round_trip(hook, booster)
    np.testing.assert_array_equal(got.predict(xgboost.DMatrix(x)), booster.predict(xgboost.DMatrix(x)))


def test_containers_of_tables_come_back(hook):
    frame = pd.DataFrame({"a": [1]})
    (train, held_out), extra = round_trip(hook, ((frame, frame.iloc[:0]), {"array": np.arange(3)}))
    assert_frame_equal(train, frame)
    assert_frame_equal(held_out, frame.iloc[:0])
    np.testing.assert_array_equal(extra["array"], np.arange(3))


@pytest.mark.parametrize("value", [None, "", b"", 0, [], {"ü/": URI}, float("inf"), range(3)], ids=repr)
def test_any_object_comes_back(hook, value):
    assert round_trip(hook, value) == value


def test_subclass_of_a_frame_comes_back_as_what_it_is(hook):
    class OwnFrame(pd.DataFrame):
        @property
        def _constructor(self):
            return OwnFrame

    assert type(round_trip(hook, OwnFrame({"a": [1]}))).__name__ == "OwnFrame"


SCALARS = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.one_of(st.none(), st.text(max_size=5), st.floats(), st.integers()),
    st.lists(st.integers(-5, 5), max_size=3),
]
DTYPES = [
    "int8",
    "uint32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex128",
    "datetime64[ns]",
    "category",
]
INDEXES = st.one_of(
    hypothesis_pandas.range_indexes(max_size=8),
    hypothesis_pandas.indexes(dtype="int64", max_size=8, unique=False),
    hypothesis_pandas.indexes(elements=st.text(max_size=3), dtype=object, max_size=8),
)


@st.composite
def frames(draw):
    """Frames of any columns that the pandas strategies of Hypothesis make, with names of any kind."""
    index = draw(INDEXES)
    columns = []
    for _ in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from([*DTYPES, "object"]))
        if dtype in ("object", "category"):
            elements = draw(st.sampled_from(SCALARS[:5] if dtype == "category" else SCALARS))
            values = draw(st.lists(elements, min_size=len(index), max_size=len(index)))
            columns.append(pd.Series(values, index=index, dtype=dtype))
        else:
            columns.append(draw(hypothesis_pandas.series(dtype=dtype, index=st.just(index))))
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
    names = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.none())
    frame.columns = draw(st.lists(names, min_size=len(columns), max_size=len(columns)))
    return frame


@pytest.mark.faults
@examples(150, 3000)
@given(frame=frames())
def test_any_frame_comes_back_identical(hook, frame):
    assert_identical(round_trip(hook, frame), frame)
