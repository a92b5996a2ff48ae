"""What a process in which tasks or actors of a callable run uses of its node, told now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_ray.cluster.worker.process_numbers import cpu_seconds, take_peak

if TYPE_CHECKING:
    from airflow_ray.cluster.protocol import ChildUsed

# It is read where a value leaves, which may be thousands of times a second.
READ_SECONDS = 1.0
# Of what is shorter nothing is told: the runner says its first word sooner, and waits for nothing.
SHORT_SECONDS = 0.05


class ChildUsage:
    """Reads what this process has used since it was last read.

    :param place: the process and its node.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._read_at = self._cpu = 0.0

    def begin(self) -> None:
        """Leave out what this process has done so far: that is of another work."""
        self._read_at = time.monotonic() + SHORT_SECONDS - READ_SECONDS
        self._cpu = cpu_seconds()
        take_peak()

    def is_due(self) -> bool:
        """Whether it is time to read it again."""
        return time.monotonic() - self._read_at >= READ_SECONDS

    def read(self) -> ChildUsed:
        """Return the peak and the seconds of CPU since the last reading."""
        self._read_at, before = time.monotonic(), self._cpu
        self._cpu = cpu_seconds()
        own = take_peak()
        peak = own.get("VmHWM", 0) - own.get("RssFile", 0) - own.get("RssShmem", 0)
        return {"place": self._place, "cpu_seconds": max(0.0, self._cpu - before), "memory": max(0, peak)}
