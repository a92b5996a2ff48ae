"""What the kernel tells of this process and of those that it has started, where it tells something."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KIB = 1024
_TICKS = os.sysconf("SC_CLK_TCK")
# The kernel's text has some 1,500 bytes, and more where the user is in very many groups.
_STATUS_BYTES = 256 * 1024


def take_peak() -> dict[str, int]:
    """Return the sizes of this process as :func:`sizes` does, and let the kernel keep its peak from now on.

    No other thread of Python runs between the two: the peak that it reaches there would be in no reading.
    """
    # Its functions keep the lock of the interpreter, which those of Python let go of.
    libc = ctypes.PyDLL(None)
    status = ctypes.create_string_buffer(_STATUS_BYTES)
    # Some systems have no such files, or let nobody write there: then what is looked at is all that is known.
    with suppress(OSError), open("/proc/self/status") as source, open("/proc/self/clear_refs", "w") as peak:
        read = partial(libc.read, source.fileno(), status, _STATUS_BYTES)
        forget = partial(libc.write, peak.fileno(), b"5", 1)
        # One step of the interpreter, which lets other threads run between its steps.
        list(map(partial.__call__, (read, forget)))
        return _sizes_in(status.value.decode(errors="replace").splitlines())
    return sizes("self")


def sizes(pid: int | str, file: str = "status") -> dict[str, int]:
    """Return the sizes in bytes that the kernel tells of a process; none where it has ended, or nobody tells."""
    with suppress(OSError), open(f"/proc/{pid}/{file}") as lines:
        return _sizes_in(lines)
    return {}


def _sizes_in(lines: Iterable[str]) -> dict[str, int]:
    parts = [line.split() for line in lines if line.rstrip().endswith(" kB")]
    return {name.rstrip(":"): int(number) * _KIB for name, number, _ in parts}


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
