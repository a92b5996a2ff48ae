"""Hand-over of a table from one task to the next, next to every other way to do it."""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks import frames
from benchmarks.measure import REPEATS, Result, Target, at_most, in_turns, noise
from benchmarks.plain_ray import run_by_ray
from benchmarks.servers import CLIENT, DRIVER, GATEWAY, ray_head
from benchmarks.xcom_storage import PickleOnS3, XComStorage
from tools.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLUMNS = 10
STORE_BYTES = 4_000_000_000
OURS, OURS_AS_DRIVER, LIMIT = "ours", "ours as driver", "limit: one Ray driver"
BY_WORKER, PICKLE, XCOM_S3, XCOM_DISK = "ray.get + ray.put", "pickle to S3", "XCom on S3", "XCom on disk"
# What ours is to take of the time of each other way.
LARGE_TARGETS = {LIMIT: 1.5, BY_WORKER: 1 / 20, XCOM_S3: 1 / 50}
SMALL_TARGETS = {BY_WORKER: 1.0, PICKLE: 1.0, XCOM_S3: 1.0, XCOM_DISK: 1.0}
# Each contestant keeps its workers: Ray ends idle ones of which there are more.
WARM_WORKERS = 8
SMALL_MEGABYTES, LARGE_MEGABYTES = 6.4, 640
# What ours took over Ray Client.
MILLISECONDS = {SMALL_MEGABYTES: 37, 64: 51, LARGE_MEGABYTES: 164}


def run_kinds(megabytes: int, repeats: int, kinds: tuple[str, ...] = ()) -> Iterator[Result]:
    """Yield for each kind of table the time from the return of one function to the sum of a column in the next.

    :param megabytes: size of each table, in units of 10^6 bytes.
    :param kinds: names in ``MAKERS``; all of them if there is none.
    """
    rows = megabytes * 1_000_000 // (8 * COLUMNS)
    with ray_head(STORE_BYTES), tempfile.TemporaryDirectory() as folder, RayHook(DRIVER).connect() as hook:
        for kind in kinds or MAKERS:
            make = _Maker(MAKERS[kind], rows, Path(folder))
            seconds = in_turns(
                {LIMIT: partial(_in_one_driver, hook, make), OURS: partial(_by_tasks, hook, make)},
                repeats,
            )
            limit, ours = (1000 * statistics.median(seconds[name]) for name in (LIMIT, OURS))
            yield Result(f"hand-over of {megabytes} MB, {kind}", ours, "ms", limit, noise(seconds[OURS]))


def run(megabytes: tuple[float, ...], mixed_megabytes: tuple[float, ...], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield for each frame of pandas the time that a hand-over takes in each way.

    :param megabytes: sizes of the frames of random floats, in units of 10^6 bytes.
    :param mixed_megabytes: those of the frames with text, times and categories.
    """
    sizes = [(frames.floats, size, f"{size:g} MB of floats") for size in megabytes]
    sizes += [(frames.mixed, size, f"a mixed table of {size:g} MB") for size in mixed_megabytes]
    server = S3Server()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            ray_head(STORE_BYTES, WARM_WORKERS, with_gateway=True),
            RayHook(DRIVER).connect() as driver,
            RayHook(CLIENT).connect() as client,
            RayHook(GATEWAY).connect() as gateway,
        ):
            for number, (make, size, what) in enumerate(sizes):
                maker = _Maker(make, size, Path(folder))
                yield from _of_frame(driver, client, gateway, server, maker, what, repeats, warm_up=number == 0)
    finally:
        server.stop()


def _of_frame(
    driver: RayHook,
    client: RayHook,
    gateway: RayHook,
    server: S3Server,
    make: _Maker,
    what: str,
    repeats: int,
    warm_up: bool,
) -> Iterator[Result]:
    frame, are_floats = make.function(make.size), make.function is frames.floats
    contestants: dict[str, Callable[[], float]] = {
        LIMIT: partial(_in_one_driver, driver, make),
        OURS: partial(_by_tasks, gateway, make),
        OURS_AS_DRIVER: partial(_by_tasks, driver, make),
        BY_WORKER: partial(_by_worker, client, make),
    }
    storages: dict[str, PickleOnS3 | XComStorage] = {
        PICKLE: PickleOnS3(server),
        XCOM_S3: XComStorage.on_s3(server),
        XCOM_DISK: XComStorage.on_disk(make.folder),
    }
    for name, storage in storages.items():
        contestants[name] = partial(storage.seconds, frame, _use)
    seconds = in_turns(contestants, repeats, warm_up)
    medians = {name: 1000 * statistics.median(measured) for name, measured in seconds.items()}
    for name, milliseconds in medians.items():
        once = ", one run" if len(seconds[name]) == 1 else ""
        bound = MILLISECONDS.get(make.size) if name == OURS and are_floats else None
        target = None if bound is None else at_most(bound)
        title = f"hand-over of {what}, {name}{once}"
        yield Result(title, milliseconds, "ms", noise=noise(seconds[name]), target=target)
    for other, target in _targets(make.size, are_floats).items():
        for name in (OURS, OURS_AS_DRIVER) if other == LIMIT else (OURS,):
            title = f"hand-over of {what}, {name} against {other}"
            yield Result(title, medians[name], "ms", medians[other], noise(seconds[name]), target)


def _targets(megabytes: float, are_floats: bool) -> dict[str, Target | None]:
    """Return with whom ours is compared, and what it is to reach."""
    bounds = {SMALL_MEGABYTES: SMALL_TARGETS, LARGE_MEGABYTES: LARGE_TARGETS}.get(megabytes, {}) if are_floats else {}
    others = (LIMIT, BY_WORKER, PICKLE, XCOM_S3, XCOM_DISK)
    return {other: at_most(bounds[other]) if other in bounds else None for other in others}


class _Maker:
    """A function that makes a table, and a file in which it writes down when it returned, in seconds since 1970."""

    def __init__(self, function: Callable[[Any], Any], size: Any, folder: Path) -> None:
        self.function, self.size, self.folder = function, size, folder
        self._returned = folder / uuid.uuid4().hex

    def timed(self) -> Callable[[], Any]:
        """Return the function that makes the table and writes down the time."""
        function, size, returned = self.function, self.size, self._returned

        def make_and_tell() -> Any:
            value = function(size)
            returned.write_text(str(time.time()))
            return value

        return make_and_tell

    def returned_at(self) -> float:
        """Return when the function last returned."""
        return float(self._returned.read_text())


def _by_tasks(hook: RayHook, make: _Maker) -> float:
    run_id = uuid.uuid4().hex
    made, used = (ObjectURI(hook.ray_conn_id, "benchmark", run_id, task) for task in ("make", "use"))
    hook.submit(make.timed(), uri=made)
    hook.wait(made)
    hook.submit(_use, made, uri=used, result="value")
    taken_at = _value(hook, used)
    hook.release(dag_id="benchmark", run_id=run_id)
    return taken_at - make.returned_at()


def _value(hook: RayHook, uri: ObjectURI) -> float:
    value = 0.0
    for progress in hook.client.follow(uri):
        value = progress.value
    return value


def _in_one_driver(hook: RayHook, make: _Maker) -> float:
    """Do the same with Ray alone, in the connection of the hook."""
    return run_by_ray(hook, lambda: _by_ray(make, through_worker=False)) - make.returned_at()


def _by_worker(hook: RayHook, make: _Maker) -> float:
    """Let the table go through this process, the Airflow worker, as two tasks with a Ray Client each have it."""
    return run_by_ray(hook, lambda: _by_ray(make, through_worker=True)) - make.returned_at()


def _by_ray(make: _Maker, through_worker: bool) -> float:
    import ray

    made = ray.remote(make.timed()).remote()
    if through_worker:
        made = ray.put(ray.get(made))
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
