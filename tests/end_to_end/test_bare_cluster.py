"""A cluster that has Ray and what Ray's own images have, and nothing of Airflow, of pendulum or of this package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pendulum
import pytest
import ray
from airflow.sdk import task

from airflow_ray.client import watcher
from airflow_ray.decorators import ray_task
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.operators.python import RayPythonOperator
from tests.conftest import new_uri
from tests.dag_runs import new_dag, run_dag
from tests.environments import python_with
from tests.ray_head import ENVIRONMENT
from tools.ray_cluster import RayHead

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Ray's own images pin this version of pyarrow.
REQUIREMENTS = (f"ray[client]=={ray.__version__}", "pyarrow==19.0.1", "pandas==2.3.*", "numpy<3")
WHEN = pendulum.datetime(2026, 7, 1, 12, tz="Europe/Berlin")


@dataclass
class Plan:
    when: pendulum.DateTime
    steps: list[int]


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    from ray._private.client_mode_hook import disable_client_hook

    head = RayHead(environment=ENVIRONMENT, python=python_with(*REQUIREMENTS))
    os.environ["AIRFLOW_CONN_RAY_BARE"] = head.client_uri
    # This process has another pyarrow, so it reads no tables as a driver; DAG runs are quicker that way.
    os.environ["AIRFLOW_CONN_RAY_BARE_DRIVER"] = head.driver_uri
    yield head
    watcher.stop_all()
    with disable_client_hook():
        ray.shutdown()
    head.stop()


@pytest.fixture(params=["ray_bare", "ray_bare_driver"])
def hook(request: pytest.FixtureRequest, head: RayHead) -> Iterator[RayHook]:
    with RayHook(request.param).connect() as hook:
        yield hook


def value_of(hook: RayHook, function, *args, **options):
    uri = new_uri(hook.ray_conn_id)
    hook.submit(function, *args, uri=uri, **options)
    hook.wait(uri)
    return hook.get(uri)


def installed():
    import importlib

    import pyarrow

    found = []
    for name in ("airflow", "pendulum", "pydantic", "airflow_ray.client"):
        with suppress(ImportError):
            found.append(importlib.import_module(name).__name__)
    return found, pyarrow.__version__


def test_cluster_is_bare(hook):
    assert value_of(hook, installed) == ([], "19.0.1")


def types_of(*args, **kwargs):
    def name(value):
        return f"{type(value).__module__}.{type(value).__qualname__}"

    def shown(value):
        if isinstance(value, dict):
            return {key: shown(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [shown(item) for item in value]
        return name(value)

    return shown([*args, kwargs])


def test_all_kinds_of_arguments_arrive(hook):
    uri = new_uri(hook.ray_conn_id)
    hook.put({"when": WHEN, "frame": pd.DataFrame({"when": [WHEN]})}, uri=uri)
    types = value_of(
        hook,
        lambda *args: (
            types_of(*args),
            args[1].when.isoformat(),
            str(args[1].when.tzinfo),
            str(args[3]["when"].tzinfo),
        ),
        [WHEN, WHEN.date(), WHEN.time(), pendulum.duration(days=1), WHEN.timezone],
        Plan(WHEN, [1]),
        [np.arange(3), pd.DataFrame({"when": [WHEN]}), {1, 2}, b"x", 2**70],
        str(uri),
    )
    shown, when, zone, put_zone = types
    assert shown[0] == [
        "datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta", "zoneinfo.ZoneInfo",
    ]  # fmt: skip
    assert (when, zone, put_zone) == ("2026-07-01T12:00:00+02:00", "Europe/Berlin", "Europe/Berlin")
    assert shown[3] == {"when": "datetime.datetime", "frame": "pandas.core.frame.DataFrame"}


def test_dag_hands_over_all_that_airflow_has(head, database):
    dag = new_dag(params={"names": ["a"]})
    dag.default_args["ray_conn_id"] = "ray_bare_driver"
    dag.render_template_as_native_obj = True

    def shown(x, native, start, params, logical_date, numbers):
        return [types_of(x, native, params, numbers), str(logical_date.tzinfo), x["when"][0].isoformat(), str(start)]

    with dag:
        when = task(lambda: {"when": [WHEN]}, task_id="when")()
        numbers = task(lambda x: x, task_id="numbers").expand(x=[1, 2])
        RayPythonOperator(
            task_id="shown",
            python_callable=shown,
            op_args=[when, ["{{ logical_date }}", "{{ params }}", "{{ dag_run.run_type }}"]],
            op_kwargs={"start": "{{ logical_date.in_tz('Europe/Berlin').tzinfo }}", "numbers": numbers.map(str)},
            result="value",
        )
        ray_task(lambda made: len(made), task_id="length", result="value")(
            ray_task(lambda: {"a": 1, "b": 2}, task_id="made")()
        )
    run = run_dag(dag)
    (types, zone, when, start) = run.xcom("shown")
    assert types == [
        {"when": ["datetime.datetime"]},
        ["datetime.datetime", {"names": ["builtins.str"]}, "builtins.str"],
        {"names": ["builtins.str"]},
        ["builtins.str", "builtins.str"],
        {},
    ]
    assert (zone, when, start) == ("UTC", "2026-07-01T12:00:00+02:00", "Europe/Berlin")
    assert run.xcom("length") == 2


def test_checkpoints_are_written_and_restored(hook, tmp_path, monkeypatch):
    def tables():
        import pandas as pd

        when = pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin")
        return {
            "frame": pd.DataFrame({"when": when, "kind": pd.Categorical(["a", "b", "a"])}, index=["x", "y", "z"]),
            "array": when.to_numpy(),
            "object": {"when": when[0].to_pydatetime()},
        }

    uri = new_uri(hook.ray_conn_id)
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__CHECKPOINT_PATH", f"file://{tmp_path}")
    hook.submit(tables, uri=uri, multiple_outputs=True, checkpoint=True)
    hook.wait(uri)
    before = {key: hook.get(uri.with_key(key)) for key in ("frame", "array", "object")}
    hook.release(uri)
    checkpoints = S3CheckpointHook(path=f"file://{tmp_path}")
    pd.testing.assert_frame_equal(checkpoints.load(uri.with_key("frame")), before["frame"])
    assert (checkpoints.load(uri.with_key("array")) == before["array"]).all()
    assert checkpoints.load(uri.with_key("object")) == before["object"]
    checkpoints.save(uri.with_key("saved here"), [WHEN, timedelta(1)])
    restored = value_of(hook, _checks, *[str(uri.with_key(key)) for key in before], str(uri.with_key("saved here")))
    assert restored == ["category", 3, "datetime", "Europe/Berlin"]


def _checks(frame, array, plain, saved):
    return [str(frame["kind"].dtype), len(array), type(plain["when"]).__name__, str(saved[0].tzinfo)]
