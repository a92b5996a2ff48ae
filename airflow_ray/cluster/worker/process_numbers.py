"""What the kernel tells of this process and of those that it has started, where it tells something."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIB = 1024
_TICKS = os.sysconf("SC_CLK_TCK")


def forget_peak() -> None:
    """Let the kernel keep the peak of this process from now on."""
    # Some systems have no such file, or let nobody write there: then what is looked at is all that is known.
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def sizes(pid: int | str, file: str = "status") -> dict[str, int]:
    """Return the sizes in bytes that the kernel tells of a process; none where it has ended, or nobody tells."""
    with suppress(OSError), open(f"/proc/{pid}/{file}") as lines:
        parts = [line.split() for line in lines if line.endswith(" kB\n")]
        return {name.rstrip(":"): int(number) * _KIB for name, number, _ in parts}
    return {}


def unshared_bytes(pid: int) -> int:
    """Return what a process shares with no other: a fork has most of its memory from its parent."""
    return sizes(pid, "smaps_rollup").get("Private_Dirty", 0)


def descendants() -> list[int]:
    """Return the processes that this one has started, and those that they have."""
    try:
        # Asks for one that has ended and leaves it there: what matters is the error where there is none at all.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    # Not all systems have that call.
    except (ChildProcessError, AttributeError):
        return []
    found = list(_children(os.getpid()))
    for pid in found:
        found += _children(pid)
    return found


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                yield from map(int, file.read().split())


def cpu_seconds() -> float:
    """Return what this process has used of CPUs so far, with what it has started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_seconds_of, descendants()))


def _cpu_seconds_of(pid: int) -> float:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        # The name of the program, which comes before in brackets, may be anything.
        fields: list[Any] = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    return 0.0
