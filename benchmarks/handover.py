"""Hand-over of a table from one Ray task to the next, next to the same two functions in one Ray driver."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import Result, noise
from tools.ray_cluster import RayHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONN_ID = "benchmark_ray"
COLUMNS = 10
STORE_BYTES = 4_000_000_000


def run(megabytes: int, repeats: int) -> Iterator[Result]:
    """Yield for each kind of table the seconds from the return of one function to the sum of a column in the next.

    :param megabytes: size of each table, in units of 10^6 bytes.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    head = RayHead(num_cpus=os.cpu_count() or 1, object_store_bytes=STORE_BYTES)
    os.environ["AIRFLOW_CONN_BENCHMARK_RAY"] = head.driver_uri
    rows = megabytes * 1_000_000 // (8 * COLUMNS)
    try:
        with tempfile.TemporaryDirectory() as folder, RayHook(CONN_ID).connect() as hook:
            for kind, make in MAKERS.items():
                yield from _of_kind(hook, f"hand-over of {megabytes} MB, {kind}", make, rows, Path(folder), repeats)
    finally:
        head.stop()


def _of_kind(
    hook: RayHook, name: str, make: Callable[[int], Any], rows: int, folder: Path, repeats: int
) -> Iterator[Result]:
    seconds: dict[str, list[float]] = {"driver": [], "tasks": []}
    for turn in range(repeats + 1):
        for contestant, hand_over in (("driver", _in_one_driver), ("tasks", _by_tasks)):
            returned = folder / uuid.uuid4().hex
            taken_at = hand_over(hook, _timed(make, returned), rows)
            if turn > 0:
                seconds[contestant].append(taken_at - float(returned.read_text()))
    driver, tasks = (statistics.median(seconds[contestant]) for contestant in ("driver", "tasks"))
    yield Result(name, 1000 * tasks, "ms", 1000 * driver, noise(seconds["tasks"]))


def _timed(make: Callable[[int], Any], returned: Path) -> Callable[[int], Any]:
    """Return a function that also writes down when it returned, in seconds since 1970."""

    def make_and_tell(rows: int) -> Any:
        value = make(rows)
        returned.write_text(str(time.time()))
        return value

    return make_and_tell


def _by_tasks(hook: RayHook, make: Callable[[int], Any], rows: int) -> float:
    run_id = uuid.uuid4().hex
    made, used = (ObjectURI(CONN_ID, "benchmark", run_id, task) for task in ("make", "use"))
    hook.submit(make, rows, uri=made)
    hook.wait(made)
    hook.submit(_use, made, uri=used)
    hook.wait(used)
    taken_at = hook.get(used)
    hook.release(dag_id="benchmark", run_id=run_id)
    return float(taken_at)


def _in_one_driver(hook: RayHook, make: Callable[[int], Any], rows: int) -> float:
    """Do the same with Ray alone: the driver is this process, which the hook has connected."""
    import ray

    made = ray.remote(make).remote(rows)
    return float(ray.get(ray.remote(_use).remote(made)))


def _use(table: Any) -> float:
    """Look at a column, and return when that was done."""
    kind = type(table).__name__
    if kind == "RayDMatrix":
        table.get_data(0)["data"]["c1"].sum()
    elif kind == "MaterializedDataset":
        table.sum("c0")
    elif kind == "ndarray":
        table[:, 0].sum()
    elif kind == "Table":
        len(table["c0"].combine_chunks())
    else:
        table["c0"].sum()
    return time.time()


def _pandas(rows: int) -> Any:
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.ones((rows, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])


def _arrow(rows: int) -> Any:
    import pyarrow as pa

    return pa.Table.from_pandas(_pandas(rows))


def _polars(rows: int) -> Any:
    import polars as pl

    return pl.from_pandas(_pandas(rows))


def _numpy(rows: int) -> Any:
    return _pandas(rows).to_numpy()


def _modin(rows: int) -> Any:
    import modin.pandas as mpd

    return mpd.DataFrame(_pandas(rows))


def _dataset(rows: int) -> Any:
    import ray

    return ray.data.from_pandas(_pandas(rows)).materialize()


def _matrix(rows: int) -> Any:
    from xgboost_ray import RayDMatrix

    return RayDMatrix(_pandas(rows), label="c0", num_actors=2)


MAKERS: dict[str, Callable[[int], Any]] = {
    "pandas": _pandas,
    "pyarrow": _arrow,
    "polars": _polars,
    "NumPy": _numpy,
    "Modin": _modin,
    "Ray Data": _dataset,
    "RayDMatrix": _matrix,
}
