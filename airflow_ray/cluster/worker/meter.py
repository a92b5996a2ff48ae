"""What a callable uses of its node: the memory and the CPU of its process and of the processes that it starts.

The Ray tasks and actors that it starts run in processes that reserve for themselves, on any node: of them
:mod:`airflow_ray.cluster.worker.child_usage` tells.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from airflow_ray.cluster.worker.gpus import GpuMemory
from airflow_ray.cluster.worker.process_numbers import cpu_seconds, descendants, take_peak, unshared_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_ray.cluster.protocol import Used

# Between two looks, which come less often the longer the work lasts and the longer each of them takes.
FIRST_SECONDS = 0.05
LONGEST_SECONDS = 1.0
PAUSES = 20


class Meter:
    """Measures what goes on while it is entered.

    The kernel keeps the peak of this process, which begins anew here, lest it be that of work before in the same
    process, and with each look. What that does not tell is seen only then: children, and what lies in Ray's store and
    counts as memory of whoever reads it.

    :param gpus: the names of those that Ray has given to the work.
    """

    def __init__(self, gpus: list[str]) -> None:
        self._gpus = GpuMemory(gpus)
        self._ended = threading.Event()
        self._looking = threading.Lock()
        self._peak = 0
        self._not_own = 0
        self._used: Used = {"seconds": 0.0, "cpu_seconds": 0.0, "memory": None, "gpu_memory": None, "gpu_total": None}

    def __enter__(self) -> Meter:
        self._started, self._cpu = time.monotonic(), cpu_seconds()
        take_peak()
        threading.Thread(target=self._look_on, name="airflow-ray-meter", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._look()
        # The callable may have waited for children that had begun before it.
        self._used["cpu_seconds"] = max(0.0, cpu_seconds() - self._cpu)
        self._used["seconds"] = time.monotonic() - self._started
        self._used["memory"] = self._peak or None
        self._used["gpu_memory"], self._used["gpu_total"] = self._gpus.peak, self._gpus.total

    @property
    def used(self) -> Used:
        """What was used, when it is left."""
        return self._used

    def _look_on(self) -> None:
        pause = FIRST_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            self._look()
            # It may take its time to load what asks a GPU.
            self._gpus.look()
            pause = max(min(2 * pause, LONGEST_SECONDS), PAUSES * (time.monotonic() - began))

    def _look(self) -> None:
        with self._looking:
            own = take_peak()
            self._not_own = max(self._not_own, own.get("RssFile", 0) + own.get("RssShmem", 0))
            since = max(own.get("RssAnon", 0), own.get("VmHWM", 0) - self._not_own)
            self._peak = max(self._peak, since + sum(map(unshared_bytes, descendants())))
