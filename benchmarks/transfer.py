"""Upload and download of a DataFrame over Ray Client, next to Ray's own put and get over the same connection."""

from __future__ import annotations

import os
import statistics
import uuid
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks import frames
from benchmarks.measure import REPEATS, Result, at_least, noise, seconds_in_turns
from tools.ray_cluster import RayHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONN_ID = "benchmark_ray"
KINDS: dict[str, Callable[[float], Any]] = {"mixed table": frames.mixed, "random floats": frames.floats}
# At this size a transfer is to be so many times as fast as Ray by itself.
TARGET_MEGABYTES = 256
TARGETS = {"upload": 3.0, "download": 1.8}
STORE_BYTES = 4_000_000_000


def run(megabytes: tuple[int, ...], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results for each kind of frame.

    :param megabytes: sizes of the frames, in units of 10^6 bytes.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    head = RayHead(object_store_bytes=STORE_BYTES)
    os.environ["AIRFLOW_CONN_BENCHMARK_RAY"] = head.client_uri
    try:
        with RayHook(CONN_ID).connect() as hook:
            for size in megabytes:
                for kind, make in KINDS.items():
                    yield from _of_frame(hook, f"{size} MB, {kind}", make(size), size, repeats)
    finally:
        head.stop()


def _of_frame(hook: RayHook, what: str, frame: Any, megabytes: int, repeats: int) -> Iterator[Result]:
    contestants = _Contestants(hook, frame)
    seconds = seconds_in_turns(
        {
            "ray.put": contestants.put_by_ray,
            "upload": contestants.upload,
            "ray.get": contestants.get_by_ray,
            "download": contestants.download,
        },
        repeats,
    )
    contestants.release()
    speed = {name: megabytes / statistics.median(measured) for name, measured in seconds.items()}
    for name, by_ray in (("upload", "ray.put"), ("download", "ray.get")):
        target = at_least(TARGETS[name]) if megabytes == TARGET_MEGABYTES else None
        yield Result(f"{name} of {what}", speed[name], "MB/s", speed[by_ray], noise(seconds[name]), target)


class _Contestants:
    """A frame, in the cluster twice at most: under a URI, and as Ray's own object."""

    def __init__(self, hook: RayHook, frame: Any) -> None:
        self._frame = frame
        self._hook = hook
        self._uri = ObjectURI(CONN_ID, "benchmark", uuid.uuid4().hex, "task")
        self._ref: Any = None

    def put_by_ray(self) -> None:
        """Put the frame in place of the one before."""
        import ray

        self._ref = None
        self._ref = self._hook._connected.run(lambda: ray.put(self._frame))

    def get_by_ray(self) -> None:
        """Get the frame."""
        import ray

        self._hook._connected.run(lambda: ray.get(self._ref))

    def upload(self) -> None:
        """Put the frame under the URI."""
        self._hook.release(self._uri)
        self._hook.put(self._frame, uri=self._uri)

    def download(self) -> None:
        """Get the frame of the URI."""
        self._hook.get(self._uri)

    def release(self) -> None:
        """Free both."""
        self._ref = None
        self._hook.release(self._uri)
