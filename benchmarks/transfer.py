"""Upload and download of values through the gateway, next to Ray Client's own put and get."""

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
from benchmarks.servers import CLIENT, DRIVER, GATEWAY, gateway_process, ray_head
from tools.peak import Peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.ray_cluster import RayHead

# From this size on a transfer is to be so many times as fast as Ray Client, and so fast.
TARGET_MEGABYTES = 256
TARGETS = {"upload": 4.0, "download": 2.0}
MEGABYTES_PER_SECOND = 400
# Ray Client takes seconds for it.
SLOW_SECONDS = 10.0
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

conn_id, uri, kind, megabytes = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
with RayHook(conn_id).connect() as hook:
    # What is imported and allocated only once.
    hook.put(frames.floats(20), uri=uri)
    hook.get(uri)
    value = frames.floats(megabytes) if kind == "a frame" else b"1" * int(1e6 * megabytes)
    print("ready", flush=True)
    sys.stdin.readline()
    with Peak(rss) as peak:
        hook.put(value, uri=uri)
    print(peak.growth, flush=True)
    del value
    sys.stdin.readline()
    with Peak(rss) as peak:
        copy = hook.get(uri)
    print(peak.growth, flush=True)
    hook.release(uri)
"""


def run(megabytes: tuple[int, ...], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results for frames of random floats.

    :param megabytes: sizes of the frames, in units of 10^6 bytes.
    """
    with ray_head(STORE_BYTES, with_gateway=True) as head:
        with RayHook(CLIENT).connect() as client, RayHook(GATEWAY).connect() as gateway:
            for number, size in enumerate(megabytes):
                moved, warm_up = _Moved(client, gateway, frames.floats(size)), number == 0
                yield from _of_frame(moved, size, repeats, warm_up)
        for kind in ("a frame", "bytes"):
            yield from _memory(head, kind, min(TARGET_MEGABYTES, megabytes[-1]))


def _of_frame(moved: _Moved, megabytes: int, repeats: int, warm_up: bool) -> Iterator[Result]:
    contestants: dict[str, Callable[[], object]] = {
        "ray.put": moved.put_by_ray,
        "upload": moved.upload,
        "ray.get": moved.get_by_ray,
        "download": moved.download,
    }
    seconds = in_turns(all_timed(contestants), repeats, warm_up, SLOW_SECONDS)
    moved.release()
    speed = {name: megabytes / statistics.median(measured) for name, measured in seconds.items()}
    is_large = megabytes >= TARGET_MEGABYTES
    for name, by_ray in (("upload", "ray.put"), ("download", "ray.get")):
        title, target = f"{name} of {megabytes} MB", at_least(TARGETS[name]) if is_large else None
        yield Result(f"{title} against {by_ray}", speed[name], "MB/s", speed[by_ray], noise(seconds[name]), target)
        if is_large:
            yield Result(title, speed[name], "MB/s", noise=noise(seconds[name]), target=at_least(MEGABYTES_PER_SECOND))


class _Moved:
    """A frame, in the cluster twice at most: under a URI, and as Ray's own object."""

    def __init__(self, client: RayHook, gateway: RayHook, frame: Any) -> None:
        self._frame = frame
        self._client, self._gateway = client, gateway
        self._uri = ObjectURI(GATEWAY, "benchmark", uuid.uuid4().hex, "task")
        self._ref: Any = None

    def put_by_ray(self) -> None:
        """Put the frame in place of the one before."""
        import ray

        self._ref = None
        self._ref = run_by_ray(self._client, lambda: ray.put(self._frame))

    def get_by_ray(self) -> None:
        """Get the frame."""
        import ray

        run_by_ray(self._client, lambda: ray.get(self._ref))

    def upload(self) -> None:
        """Put the frame under the URI."""
        self._gateway.release(self._uri)
        self._gateway.put(self._frame, uri=self._uri)

    def download(self) -> None:
        """Get the frame of the URI."""
        self._gateway.get(self._uri)

    def release(self) -> None:
        """Free both."""
        self._ref = None
        self._gateway.release(self._uri)


def _memory(head: RayHead, kind: str, megabytes: int) -> Iterator[Result]:
    """Move a value up and down, and yield how much memory that takes besides the value itself."""
    uri = str(ObjectURI(GATEWAY, "benchmark", uuid.uuid4().hex, "task"))
    command = [sys.executable, "-c", MOVE, GATEWAY, uri, kind, str(megabytes)]
    gateway = gateway_process(head)
    with (
        RayHook(DRIVER).connect() as hook,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process,
    ):
        orders, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        answers.readline()
        # The worker at the other end puts the value together in its heap before it goes to the store, and has one
        # copy of what it takes apart.
        for way, arrived, of_cluster in (("upload", 0, 2), ("download", 1, 1)):
            with Peak(lambda: _cluster_bytes(head, hook)) as cluster, Peak(lambda: gateway.memory_info().rss) as own:
                orders.write("go\n")
                client = int(answers.readline()) / 1e6 - arrived * megabytes
            title = f"{way} of {kind} of {megabytes} MB, memory of the"
            over = " over one copy" if arrived else ""
            yield Result(f"{title} client{over}", client, "MB", target=at_most(EXTRA_MEGABYTES))
            yield Result(f"{title} gateway", own.growth / 1e6, "MB", target=at_most(EXTRA_MEGABYTES))
            most = at_most(of_cluster * megabytes + EXTRA_MEGABYTES)
            yield Result(f"{title} cluster", cluster.growth / 1e6, "MB", target=most)


def _cluster_bytes(head: RayHead, hook: RayHook) -> int:
    """Return what the object store holds, and what all processes of the head have for themselves."""
    used: int = run_by_ray(hook, _store_bytes)
    infos = [process.memory_info() for process in head.processes("")]
    return used + sum(info.rss - info.shared for info in infos)


def _store_bytes() -> int:
    import ray
    from ray._private.internal_api import get_memory_info_reply

    return int(get_memory_info_reply(ray._private.state.state).store_stats.object_store_bytes_used)
