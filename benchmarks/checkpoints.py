"""Checkpoint write and read of a DataFrame, next to pyarrow alone on the same server of the S3 protocol."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import REPEATS, Result, at_least, noise, seconds_in_turns
from tools.s3_server import REGION, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = 10
TARGET = 0.9


def run(megabytes: tuple[int, ...], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results for frames of random floats.

    :param megabytes: sizes of the frames, in units of 10^6 bytes.
    """
    server = S3Server()
    try:
        os.environ["AIRFLOW_CONN_BENCHMARK_S3"] = server.connection()
        for size in megabytes:
            yield from _of_size(server, size, repeats)
    finally:
        server.stop()


def _of_size(server: S3Server, megabytes: int, repeats: int) -> Iterator[Result]:
    import numpy as np
    import pandas as pd

    rows = megabytes * 1_000_000 // (8 * COLUMNS)
    frame = pd.DataFrame(np.random.default_rng(0).random((rows, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])
    bucket = server.new_bucket()
    hook = S3CheckpointHook("benchmark_s3", f"s3://{bucket}/checkpoints")
    uri = ObjectURI("ray_default", "benchmark", "run", "task")
    raw = _RawArrow(server, f"{bucket}/raw.arrows")
    seconds = seconds_in_turns(
        {
            "server write": lambda: raw.put(megabytes),
            "pyarrow write": lambda: raw.write(frame),
            "checkpoint write": lambda: hook.save(uri, frame),
            "server read": raw.get,
            "pyarrow read": raw.read,
            "checkpoint read": lambda: hook.load(uri),
        },
        repeats,
    )
    speed = {name: megabytes / statistics.median(measured) for name, measured in seconds.items()}
    for name, value in speed.items():
        who, what = name.split()
        baseline = None if who == "server" else speed[f"{'pyarrow' if who == 'checkpoint' else 'server'} {what}"]
        target = at_least(TARGET) if who == "checkpoint" else None
        yield Result(f"{name}, {megabytes} MB", value, "MB/s", baseline, noise(seconds[name]), target)


class _RawArrow:
    """pyarrow alone: a table as one Arrow stream in one object, read in one request."""

    def __init__(self, server: S3Server, path: str) -> None:
        from pyarrow import fs

        self._path = path
        self._filesystem = fs.S3FileSystem(
            access_key="test-access-key",
            secret_key="test-secret-key",
            endpoint_override=server.endpoint.removeprefix("http://"),
            scheme="http",
            region=REGION,
        )

    def put(self, megabytes: int) -> None:
        """Write zeros: what the server itself takes."""
        with self._filesystem.open_output_stream(f"{self._path}.zeros") as stream:
            stream.write(bytes(megabytes * 1_000_000))

    def get(self) -> Any:
        """Read the zeros."""
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
