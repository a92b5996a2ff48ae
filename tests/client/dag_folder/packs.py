"""What two Airflow tasks do that have no Ray, each in a process of its own: pack calls, and read what they return.

``produce`` writes a call for each kind of code and value to a folder, ``consume`` one that checks each value; ``read``
checks the values that have come to the folder.
"""

from __future__ import annotations

import datetime
import functools
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pendulum
import polars as pl
import pyarrow as pa
import shapes
from loading import load_as_airflow_does

from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.submission.fingerprint import fingerprint
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.submission.payload import pack
from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.values.pickler import pickler, unpickler
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook

ROWS = 200_000


async def awaited(number):
    return number + 1


def total_of(*parts):
    return [len(part) for part in parts]


def kinds_of(*values):
    return [f"{type(value).__module__}.{type(value).__name__} {value}" for value in values]


def area_of_a_subclass():
    class Room(shapes.Square):
        def area(self):
            return super().area() + 1

    return Room(2).area()


def slices():
    table = pa.table({"a": np.arange(ROWS), "b": [f"a text of some length {number}" for number in range(ROWS)]})
    frame = pl.DataFrame(table).select(pl.struct("a", "b").alias("s"))
    return [table.slice(10, 100), table["b"].chunk(0).slice(10, 100), frame[10:110], table.to_pandas().iloc[10:110]]


def dates():
    moment = pendulum.datetime(2026, 3, 29, 1, 30, tz="Europe/Berlin")
    return [moment, moment.date(), moment.time(), pendulum.duration(days=2), pendulum.timezone("UTC")]


def calls(dag):
    yield "lambda", (lambda: shapes.Square(2).area()), ()
    yield "partial", functools.partial(total_of, [1, 2]), ([3],)
    yield "async", awaited, (1,)
    yield "subclass", area_of_a_subclass, ()
    yield "cached_property", (lambda: shapes.Square(3).diagonal), ()
    yield "lru_cache", shapes.fibonacci, (50,)
    yield "NewType", (lambda number: shapes.Metres(number)), (4,)
    yield "slices", total_of, slices()
    yield "dates", kinds_of, dates()
    yield "pandas", (lambda frame: int(frame["n"].sum())), (pd.DataFrame({"n": [1, 2]}),)
    yield "time zone", kinds_of, (datetime.datetime(2026, 1, 1, tzinfo=pendulum.timezone("Asia/Tokyo")),)
    for name, make in dag.MAKERS.items():
        yield f"make {name}", make, ()


def written(folder, name, function, *args):
    call = pack(function, args, {})
    mark = fingerprint(function, args, {}, call.sources, RemoteOptions(), "")
    message = {"pickled": call.pickled, "sources": call.sources, "fingerprint": mark}
    (folder / name).write_bytes(packed(message))
    return len(call.pickled)


def produce(folder, dag):
    sizes = {name: written(folder, name, function, *args) for name, function, args in calls(dag)}
    for name, make in dag.MAKERS.items():
        S3CheckpointHook(path=f"file://{folder}").save(uri(name), make())
        with (folder / f"put {name}").open("wb") as file, pickle_by_value(importable_modules_of_user()):
            pickler(file).dump(make())
    return {"sizes": sizes}


def consume(folder, dag):
    for name, check in dag.CHECKS.items():
        written(folder, f"check {name}", check, uri(name))
    return {}


def read(folder, dag):
    found = {}
    keep_identities()
    for name, check in dag.CHECKS.items():
        value = unpacked((folder / f"value {name}").read_bytes())
        found[f"fetched {name}"] = check(unpickler(io.BytesIO(value["pickled"]), value["buffers"]).load())
        found[f"loaded {name}"] = check(S3CheckpointHook(path=f"file://{folder}/of_worker").load(uri(name)))
    return found


def uri(name):
    return f"ray-object://ray_client/tests/run/{name}/-1/return_value"


STEP, FOLDER = sys.argv[1:]
told = {"produce": produce, "consume": consume, "read": read}[STEP](Path(FOLDER), load_as_airflow_does())
print(json.dumps({**told, "has ray": "ray" in sys.modules}))
