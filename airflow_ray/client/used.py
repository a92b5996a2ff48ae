"""What work has used of the cluster, in words: what to reserve for it the next time."""

from __future__ import annotations

from typing import Any

_BINARY = ("bytes", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("bytes", "kB", "MB", "GB", "TB")


def used_text(record: dict[str, Any]) -> str | None:
    """Return what work has used, or None where nobody knows.

    :param record: as the cluster's ``describe`` returns it; that of an earlier release tells nothing of this.
    """
    used: dict[str, Any] | None = record.get("used")
    if used is None:
        return None
    memory = _memory(used["memory"], record.get("memory"))
    parts = [*([memory] if memory else []), _cpu(used, record.get("num_cpus"))]
    text = f"It used {', and '.join(parts)}"
    if used["gpu_total"]:
        text += f"; its GPUs held at most {memory_size(used['gpu_memory'])} of {memory_size(used['gpu_total'])}"
    if children := record.get("children_used"):
        processes = children["processes"]
        text += f"; its Ray tasks and actors used {_seconds(children['cpu_seconds'])} of CPU, and at most "
        text += f"{memory_size(children['memory'])} of memory in "
        text += "one process" if processes == 1 else f"each of {processes:,} processes"
    read, written = record.get("read_bytes"), record.get("written_bytes")
    if read is not None and (read or written):
        text += f"; it read {_size(read, 1000, _DECIMAL)} and wrote {_size(written or 0, 1000, _DECIMAL)} in the object"
        text += " store"
    return f"{text}."


def memory_size(count: float) -> str:
    """Return an amount of memory in powers of 1024.

    >>> memory_size(2 * 1024**3)
    '2 GiB'
    """
    return _size(count, 1024, _BINARY)


def _memory(used: int | None, reserved: int | None) -> str:
    if used is None:
        return ""
    if not reserved:
        return f"at most {memory_size(used)} of memory, of which it had reserved none"
    if used > reserved:
        return f"at most {memory_size(used)} of memory, more than the {memory_size(reserved)} that it had reserved"
    return f"at most {memory_size(used)} of the {memory_size(reserved)} of memory that it had reserved"


def _cpu(used: dict[str, Any], cpus: float | None) -> str:
    text = f"{_seconds(used['cpu_seconds'])} of CPU in {_seconds(used['seconds'])}"
    if cpus is None:
        return text
    return f"{text} on {cpus:g} CPU{'s' * (cpus != 1)}" if cpus else f"{text}, with no CPU reserved"


def _seconds(seconds: float) -> str:
    if seconds < 0.001:
        return "under 0.001 s"
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _size(count: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while round(count) >= base and power < len(units) - 1:
        count /= base
        power += 1
    return f"{count:.3g} {units[power]}" if count < 100 else f"{count:.0f} {units[power]}"
