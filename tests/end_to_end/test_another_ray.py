"""A cluster of an older Ray and pyarrow than Airflow has, reached through the gateway."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest

from airflow_ray.client.connection import gateway_start
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.client.connection.settings import RaySettings
from airflow_ray.exceptions import RayTaskFailedError, RayVersionMismatchError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.release import RayReleaseOperator
from airflow_ray.operators.tune import RayTuneOperator
from tests.conftest import new_uri
from tests.dag_runs import new_dag, run_dag
from tests.environments import python_with
from tests.ray_head import ENVIRONMENT
from tools.ray_cluster import RayHead
from tools.s3_server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RAY = "2.58.1"
# Ray's own images pin this release of pyarrow, and numpy 1.26 as long as Python has it.
ARRAYS = "numpy<3", "numpy<2; python_version < '3.13'"
REQUIREMENTS = f"ray[client,tune]=={RAY}", "pyarrow==19.0.1", *ARRAYS, "pandas==2.3.*", "polars"
CONN_ID = "ray_another"


class Color(Enum):
    RED = "red"


@dataclass
class Plan:
    when: datetime
    steps: list[int] = field(default_factory=list)
    color: Color = Color.RED


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    head = RayHead(environment=ENVIRONMENT, python=python_with(*REQUIREMENTS))
    yield head
    head.stop()


@pytest.fixture(scope="module")
def hook(head: RayHead, s3: S3Server) -> Iterator[RayHook]:
    """A connection through the gateway, with a bucket for checkpoints."""
    address = urlsplit(head.gateway_uri)
    fields = {"conn_type": "ray", "host": "127.0.0.1", "port": address.port, "password": address.password}
    checkpoints = {"checkpoint_path": f"s3://{s3.new_bucket()}/checkpoints", "checkpoint_conn_id": "s3"}
    os.environ["AIRFLOW_CONN_S3"] = s3.connection()
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps({**fields, "extra": {"mode": "gateway", **checkpoints}})
    with RayHook(CONN_ID).connect() as hook:
        yield hook


def value_of(hook: RayHook, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    uri = new_uri(CONN_ID)
    hook.submit(function, *args, uri=uri, **options)
    hook.wait(uri)
    return hook.get(uri)


def releases() -> list[str]:
    from importlib.metadata import version

    return [version("ray"), version("pyarrow")]


def test_cluster_has_other_releases(hook):
    assert value_of(hook, releases) == [RAY, "19.0.1"]
    assert not {RAY, "19.0.1"}.intersection(releases())


# Of values: all are made on the cluster and in this process, by its releases, and must be the same.


def frame() -> Any:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    when = pd.date_range("2026-03-28", periods=4, freq="D", tz="Europe/Berlin")
    return pd.DataFrame(
        {
            "int8": np.array([1, 2, 3, 4], "int8"),
            "float32": np.array([1, np.nan, np.inf, -0.0], "float32"),
            "bool": [True, False, True, False],
            "Int64": pd.array([1, None, 3, 4], "Int64"),
            "Float64": pd.array([1.5, None, 3, 4], "Float64"),
            "boolean": pd.array([True, None, False, True], "boolean"),
            "string": pd.array(["ä", None, "", "日本"], "string"),
            "string of arrow": pd.array(["ä", None, "", "日本"], "string[pyarrow]"),
            "arrow": pd.array([[1], None, [], [2, 3]], pd.ArrowDtype(pa.list_(pa.int64()))),
            "when": when,
            "ms": when.tz_localize(None).as_unit("ms"),
            "took": pd.to_timedelta([1, 2, None, 4], unit="s"),
            "category": pd.Categorical(["b", "a", None, "b"], ["b", "a", "c"], ordered=True),
            "period": pd.period_range("2026-01", periods=4, freq="M"),
            "interval": pd.interval_range(0, 4),
            "complex": [1j, 2, 3, 4],
            "object": [[1], {"a": 2}, None, Decimal("1.10")],
            ("a", 1): [b"\x00", b"", None, b"x"],
        },
        index=when,
    )


def indexed_frame() -> Any:
    import pandas as pd

    rows = pd.MultiIndex.from_product([["a", "b"], pd.Categorical(["x", "y"])], names=["first", None])
    columns = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["letter", "number"])
    return pd.DataFrame([[1, 2.5], [3, 4.5], [5, 6.5], [7, 8.5]], index=rows, columns=columns)


def empty_frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"a": pd.Series([], dtype="category"), "b": pd.Series([], dtype="datetime64[ns, UTC]")})


def nothing_frame() -> Any:
    import pandas as pd

    return pd.DataFrame()


def series() -> Any:
    import pandas as pd

    return pd.Series(pd.Categorical(["a", "b"]), index=pd.Index(["x", "y"], name="who"), name="ß")


def large_frame() -> Any:
    import numpy as np
    import pandas as pd

    return pd.DataFrame({"number": np.arange(300_000), "text": [f"text {n % 1000}" for n in range(300_000)]})


def table() -> Any:
    import pyarrow as pa

    return pa.table(
        {
            "text": pa.chunked_array([["ä"], ["b", None]]),
            "large": pa.array(["a", None, "b"], pa.large_string()),
            "view": pa.array(["a", None, "b"], pa.string_view()),
            "when": pa.array([0, None, 1], pa.timestamp("us", "Europe/Berlin")),
            "money": pa.array([Decimal("1.10"), None, Decimal("2.20")], pa.decimal128(10, 2)),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "nested": pa.array([{"a": [1, 2]}, None, {"a": []}]),
            "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
            "list view": pa.array([[1], None, []], pa.list_view(pa.int8())),
            "null": pa.nulls(3),
        },
        metadata={"made by": "tests"},
    )


def sliced_table() -> Any:
    import pyarrow as pa

    return pa.table({"a": list(range(100_000)), "b": ["x"] * 100_000}).slice(17, 10)


def polars_frame() -> Any:
    import polars as pl

    columns = {"a": [1, None], "b": ["ä", "日本"], "c": [[1], []], "d": [datetime(2026, 1, 1, tzinfo=timezone.utc)] * 2}
    return pl.DataFrame(columns).with_columns(pl.col("b").cast(pl.Categorical).alias("e"))


def arrays() -> Any:
    import numpy as np

    return {
        "C": np.arange(6.0).reshape(2, 3),
        "F": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array(["ä", "b"]),
        "when": np.array(["2026-01-01", "NaT"], "datetime64[ms]"),
        "object": np.array([1, None, "a"], dtype=object),
        "record": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        "scalar": np.float32(1.5),
        "masked": np.ma.masked_array([1, 2], [False, True]),
        "empty": np.empty((0, 3)),
        "zero-dimensional": np.array(5),
    }


def large_array() -> Any:
    import numpy as np

    return np.arange(1_500_000, dtype="float64")


def plain() -> Any:
    return {
        "tuple": (1, "zwei", 3.0, None),
        "set": {1, 2},
        "ünï": "日本\x00\ud83d",
        "dates": [datetime(2026, 3, 29, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), timedelta(1)],
        "large int": 2**200,
        "decimal": Decimal("1.10"),
        "nan": float("inf"),
        "bytes": [b"\x00", bytearray(b"x")],
        "partial": partial(max, 3)(1),
        "exception": repr(ValueError("wrong")),
    }


def plan() -> Any:
    return Plan(datetime(2026, 7, 1, tzinfo=timezone.utc), [1, 2])


def large_bytes() -> bytes:
    return bytes(range(256)) * 40_000


MAKERS = {
    maker.__name__: maker
    for maker in (
        frame,
        indexed_frame,
        empty_frame,
        nothing_frame,
        series,
        large_frame,
        table,
        sliced_table,
        polars_frame,
        arrays,
        large_array,
        plain,
        plan,
        large_bytes,
    )
}
MAKERS |= {"none": lambda: None, "tuple": lambda: (1, (2,), ()), "unicode": lambda: "ä日本", "empty": lambda: b""}


def same(value: Any, other: Any) -> bool:
    """Whether two values are the same, down to their types."""
    import numpy as np
    import pandas as pd

    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(value, other)
        return value.index.equals(other.index) and list(value.dtypes) == list(other.dtypes)
    if isinstance(value, pd.Series):
        pd.testing.assert_series_equal(value, other)
        return True
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(value, other)
        return value.dtype == other.dtype and value.flags.f_contiguous == other.flags.f_contiguous
    if type(value).__module__.startswith("pyarrow"):
        return bool(value.equals(other, check_metadata=True))
    if type(value).__module__.startswith("polars"):
        return bool(value.equals(other)) and value.schema == other.schema
    return bool(value == other)


def agrees(make: Callable[[], Any], value: Any) -> bool:
    return same(make(), value)


@pytest.mark.parametrize("kind", MAKERS)
def test_value_of_the_cluster_is_read_here(hook, kind):
    make = MAKERS[kind]
    assert same(value_of(hook, make), make())


@pytest.mark.parametrize("kind", MAKERS)
def test_value_of_this_process_is_read_on_the_cluster(hook, kind):
    make = MAKERS[kind]
    assert value_of(hook, agrees, make, make())
    put = new_uri(CONN_ID)
    hook.put(make(), uri=put)
    assert value_of(hook, agrees, make, put)


@pytest.mark.parametrize("kind", MAKERS)
def test_checkpoint_of_the_cluster_is_read_there_and_here(hook, kind):
    make, uri = MAKERS[kind], new_uri(CONN_ID)
    hook.submit(make, uri=uri, checkpoint=True)
    hook.wait(uri)
    path = hook.client.settings.checkpoint_path
    assert same(S3CheckpointHook(aws_conn_id="s3", path=path).load(uri), make())
    hook.release(uri)
    use = new_uri(CONN_ID)
    hook.submit(agrees, make, uri, uri=use)
    assert hook.wait(use)["inputs"][0]["source"] == "checkpoint"
    assert hook.get(use)


@pytest.mark.parametrize("kind", MAKERS)
def test_checkpoint_of_this_process_is_read_on_the_cluster(hook, kind):
    make, uri = MAKERS[kind], new_uri(CONN_ID)
    S3CheckpointHook(aws_conn_id="s3", path=hook.client.settings.checkpoint_path).save(uri, make())
    assert value_of(hook, agrees, make, uri)


class TooColdError(Exception):
    def __init__(self, degrees: float) -> None:
        super().__init__(degrees)
        self.degrees = degrees


def too_cold() -> None:
    try:
        {}["sun"]
    except KeyError as error:
        raise TooColdError(-273.2) from error


def test_exception_of_the_callable_is_told(hook):
    uri = new_uri(CONN_ID)
    hook.submit(too_cold, uri=uri)
    with pytest.raises(RayTaskFailedError, match=r"TooColdError: -273\.2") as told:
        hook.wait(uri)
    assert "KeyError: 'sun'" in str(told.value)


def fitted(config: dict[str, Any], points: Any) -> None:
    from ray import tune

    tune.report({"loss": abs(config["x"] - points["x"].mean())})


def test_dag_run_with_checkpoints_and_a_search(hook, s3, database):
    dag = new_dag(params={})
    dag.default_args["ray_conn_id"] = CONN_ID
    with dag:
        points = RayPythonOperator(
            task_id="points",
            python_callable=lambda: __import__("pandas").DataFrame({"x": [1, 2, 6]}),
            checkpoint=True,
        )
        release = RayReleaseOperator(task_id="release", object_uri=points.output)
        search = RayTuneOperator(
            task_id="tune",
            trainable=fitted,
            data={"points": points.output},
            param_space={"x": {"grid_search": [2, 3]}},
            metric="loss",
            mode="min",
            storage_path=f"s3://{s3.new_bucket()}/searches",
            storage_conn_id="s3",
        )
        release >> search
    result = run_dag(dag).xcom("tune")
    assert (result["best_config"], result["trials"], result["errors"]) == ({"x": 3}, 2, 0)
    assert len(hook.get(ObjectURI.parse(result["table"]))) == 2


def test_another_way_to_start_the_gateway_is_told_where_only_ray_client_is_open(head, monkeypatch):
    monkeypatch.setattr(gateway_start, "CLIENT_PORT", head.ports[1])
    monkeypatch.setitem(gateway_start.PORTS, "client", head.ports[1])
    port, closed = free_ports(2)
    place = {"host": "127.0.0.1", "port": port, "dashboard_url": f"http://127.0.0.1:{closed}", "password": 32 * "x"}
    settings = RaySettings.model_validate({"conn_id": CONN_ID, "mode": "gateway", **place})
    with pytest.raises(RayVersionMismatchError, match=f"(?s)the gateway with the cluster.*Ray: {RAY}"):
        gateway_start.ensure_started(settings, time.monotonic() + 100)


def test_button_tells_the_release_of_the_cluster(hook):
    is_fine, words = RayHook(CONN_ID).test_connection()
    assert is_fine, words
    assert f"Ray {RAY}" in words
