"""Checkpoint write and read of a DataFrame, next to pyarrow alone on the same storage."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from benchmarks import frames
from benchmarks.measure import REPEATS, Result, all_timed, at_least, in_turns, noise
from benchmarks.servers import DRIVER, ray_head
from benchmarks.xcom_storage import s3_filesystem
from tools.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S3_CONN_ID = "benchmark_s3"
TARGET = 0.9
PARTITIONS = 8


def run(megabytes: tuple[int, ...], parts_megabytes: int, repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results for frames of random floats.

    :param megabytes: sizes of the frames, in units of 10^6 bytes.
    :param parts_megabytes: size of the frame that Modin has in partitions.
    """
    from pyarrow import fs

    server = S3Server()
    try:
        os.environ[f"AIRFLOW_CONN_{S3_CONN_ID.upper()}"] = server.connection()
        with tempfile.TemporaryDirectory() as folder:
            bucket = server.new_bucket()
            places = [
                _Place("disk", fs.LocalFileSystem(), folder, S3CheckpointHook(path=f"file://{folder}/checkpoints")),
                _Place("S3", s3_filesystem(server), bucket, S3CheckpointHook(S3_CONN_ID, f"s3://{bucket}/checkpoints")),
            ]
            for number, size in enumerate(megabytes):
                frame = frames.floats(size)
                # A disk is not what differs between sizes.
                for place in places if number == 0 else places[-1:]:
                    yield from _of_frame(place, frame, size, repeats, warm_up=number == 0)
    finally:
        server.stop()
    yield from _in_parts(parts_megabytes, repeats)


@dataclass(frozen=True)
class _Place:
    """Where frames are written, by pyarrow in ``filesystem`` and by a hook."""

    name: str
    filesystem: Any
    folder: str
    hook: S3CheckpointHook


def _of_frame(place: _Place, frame: Any, megabytes: int, repeats: int, warm_up: bool) -> Iterator[Result]:
    uri = ObjectURI("ray_default", "benchmark", "run", "task")
    raw = _Raw(place.filesystem, f"{place.folder}/raw")
    writes: dict[str, Callable[[], object]] = {
        "bytes write": partial(raw.write_zeros, megabytes),
        "pyarrow write": partial(raw.write, frame),
        "checkpoint write": partial(place.hook.save, uri, frame),
    }
    reads: dict[str, Callable[[], object]] = {
        "bytes read": raw.read_zeros,
        "pyarrow read": raw.read,
        "checkpoint read": partial(place.hook.load, uri),
    }
    seconds = in_turns(all_timed(writes), repeats, warm_up)
    # Of one run alone nobody knows whether this machine had to find the memory for it first.
    seconds |= in_turns(all_timed(reads), repeats, slow_seconds=math.inf)
    speed = {name: megabytes / statistics.median(measured) for name, measured in seconds.items()}
    for name, value in speed.items():
        who, what = name.split()
        baseline = {"bytes": None, "pyarrow": f"bytes {what}", "checkpoint": f"pyarrow {what}"}[who]
        yield Result(
            f"{name} of {megabytes} MB, {place.name}",
            value,
            "MB/s",
            speed[baseline] if baseline else None,
            noise(seconds[name]),
            at_least(TARGET) if who == "checkpoint" else None,
        )


class _Raw:
    """pyarrow alone: a table as one Arrow stream in one object, read in one request; and zeros of the same size."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem = filesystem
        self._path = path

    def write_zeros(self, megabytes: int) -> None:
        """Write what nothing has to be made of: what the storage itself takes."""
        with self._filesystem.open_output_stream(f"{self._path}.zeros") as stream:
            stream.write(bytes(megabytes * 1_000_000))

    def read_zeros(self) -> Any:
        """Read them."""
        with self._filesystem.open_input_file(f"{self._path}.zeros") as file:
            return file.read_buffer()

    def write(self, frame: Any) -> None:
        """Write a frame."""
        import pyarrow as pa

        table = pa.Table.from_pandas(frame)
        with (
            self._filesystem.open_output_stream(self._path) as stream,
            pa.ipc.new_stream(stream, table.schema) as writer,
        ):
            writer.write_table(table)

    def read(self) -> Any:
        """Read the frame."""
        import pyarrow as pa

        with self._filesystem.open_input_file(self._path) as file:
            return pa.ipc.open_stream(file.read_buffer()).read_pandas()


def _in_parts(megabytes: int, repeats: int) -> Iterator[Result]:
    """Let tasks on Ray checkpoint the same frame as pandas has it and as Modin does."""
    with ray_head(), tempfile.TemporaryDirectory() as folder, RayHook(DRIVER).connect() as hook:
        write = partial(_seconds_to_write, hook, f"file://{folder}", megabytes)
        seconds = in_turns({"pandas": partial(write, frames.floats), "Modin": partial(write, _modin)}, repeats)
    pandas, modin = (megabytes / statistics.median(seconds[kind]) for kind in ("pandas", "Modin"))
    title = f"checkpoint write of {megabytes} MB in a task, Modin in {PARTITIONS} partitions against pandas"
    yield Result(title, modin, "MB/s", pandas, noise(seconds["Modin"]), at_least(1))


def _seconds_to_write(hook: RayHook, path: str, megabytes: int, make: Callable[[float], Any]) -> float:
    uri = ObjectURI(DRIVER, "benchmark", uuid.uuid4().hex, "task")
    hook.submit(make, megabytes, uri=uri, checkpoint=True, checkpoint_path=path)
    hook.wait(uri)
    written = hook.describe(uri)["outputs"]["return_value"]["checkpoint"]
    hook.release(uri)
    return float(written["seconds"])


def _modin(megabytes: float) -> Any:
    """Return the frame in parts."""
    import modin.config
    import modin.pandas as mpd

    modin.config.NPartitions.put(PARTITIONS)
    return mpd.DataFrame(frames.floats(megabytes))
