"""Upload and download of a DataFrame over Ray Client, next to Ray's own put and get over the same connection."""

from __future__ import annotations

import statistics
import subprocess
import sys
import uuid
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks import frames
from benchmarks.measure import REPEATS, Result, all_timed, at_least, at_most, in_turns, noise
from benchmarks.plain_ray import run_by_ray
from benchmarks.servers import CLIENT, DRIVER, ray_head
from tools.peak import Peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.ray_cluster import RayHead

# At this size a transfer is to be so many times as fast as Ray by itself.
TARGET_MEGABYTES = 256
TARGETS = {"upload": 3.0, "download": 1.8}
EXTRA_MEGABYTES = 64
STORE_BYTES = 4_000_000_000

# A process that has nothing else in its memory; it waits for a line before each way.
MOVE = """
import sys
import psutil
from airflow_ray.hooks.ray import RayHook
from benchmarks import frames
from tools.peak import Peak

def rss():
    return psutil.Process().memory_info().rss

conn_id, uri, megabytes = sys.argv[1], sys.argv[2], float(sys.argv[3])
with RayHook(conn_id).connect() as hook:
    # What is imported and allocated only once.
    hook.put(frames.floats(20), uri=uri)
    hook.get(uri)
    frame = frames.floats(megabytes)
    print("ready", flush=True)
    sys.stdin.readline()
    with Peak(rss) as peak:
        hook.put(frame, uri=uri)
    print(peak.growth, flush=True)
    del frame
    sys.stdin.readline()
    with Peak(rss) as peak:
        copy = hook.get(uri)
    print(peak.growth, flush=True)
"""


def run(megabytes: tuple[int, ...], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results for frames of random floats.

    :param megabytes: sizes of the frames, in units of 10^6 bytes.
    """
    with ray_head(STORE_BYTES) as head:
        with RayHook(CLIENT).connect() as hook:
            for number, size in enumerate(megabytes):
                frame, warm_up = frames.floats(size), number == 0
                yield from _of_frame(hook, frame, size, repeats, warm_up)
        yield from _memory(head, min(TARGET_MEGABYTES, megabytes[-1]))


def _of_frame(hook: RayHook, frame: Any, megabytes: int, repeats: int, warm_up: bool) -> Iterator[Result]:
    moved = _Moved(hook, frame)
    contestants: dict[str, Callable[[], object]] = {
        "ray.put": moved.put_by_ray,
        "upload": moved.upload,
        "ray.get": moved.get_by_ray,
        "download": moved.download,
    }
    seconds = in_turns(all_timed(contestants), repeats, warm_up)
    moved.release()
    speed = {name: megabytes / statistics.median(measured) for name, measured in seconds.items()}
    for name, by_ray in (("upload", "ray.put"), ("download", "ray.get")):
        target = at_least(TARGETS[name]) if megabytes == TARGET_MEGABYTES else None
        yield Result(f"{name} of {megabytes} MB", speed[name], "MB/s", speed[by_ray], noise(seconds[name]), target)


class _Moved:
    """A frame, in the cluster twice at most: under a URI, and as Ray's own object."""

    def __init__(self, hook: RayHook, frame: Any) -> None:
        self._frame = frame
        self._hook = hook
        self._uri = ObjectURI(CLIENT, "benchmark", uuid.uuid4().hex, "task")
        self._ref: Any = None

    def put_by_ray(self) -> None:
        """Put the frame in place of the one before."""
        import ray

        self._ref = None
        self._ref = run_by_ray(self._hook, lambda: ray.put(self._frame))

    def get_by_ray(self) -> None:
        """Get the frame."""
        import ray

        run_by_ray(self._hook, lambda: ray.get(self._ref))

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


def _memory(head: RayHead, megabytes: int) -> Iterator[Result]:
    """Move a frame of floats up and down, and yield how much memory that takes besides the frame itself."""
    command = [
        sys.executable,
        "-c",
        MOVE,
        CLIENT,
        str(ObjectURI(CLIENT, "benchmark", "memory", "task")),
        str(megabytes),
    ]
    with (
        RayHook(DRIVER).connect() as hook,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process,
    ):
        orders, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        answers.readline()
        for way, where_it_arrives in (("upload", "cluster"), ("download", "client")):
            with Peak(lambda: _cluster_bytes(head, hook)) as peak:
                orders.write("go\n")
                growth = {"client": int(answers.readline())}
            growth["cluster"] = peak.growth
            for side, size in growth.items():
                extra = size / 1e6 - (megabytes if side == where_it_arrives else 0)
                title = f"{way} of {megabytes} MB, memory of the {side} over one copy"
                yield Result(title, extra, "MB", target=at_most(EXTRA_MEGABYTES))


def _cluster_bytes(head: RayHead, hook: RayHook) -> int:
    """Return what the object store holds, and what all processes of the head have for themselves."""
    used: int = run_by_ray(hook, _store_bytes)
    infos = [process.memory_info() for process in head.processes("")]
    return used + sum(info.rss - info.shared for info in infos)


def _store_bytes() -> int:
    import ray
    from ray._private.internal_api import get_memory_info_reply

    return int(get_memory_info_reply(ray._private.state.state).store_stats.object_store_bytes_used)
