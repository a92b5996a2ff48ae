"""What is known of a node whose memory was full when Ray ended a process there."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.protocol import FailureKind, State

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.record import Record

# Ray may end several at once, and tells of them one after the other.
TOGETHER_SECONDS = 2.0
_GIB = 1024**3
# Of the monitor of Ray's nodes.
_NODE = re.compile(r"Memory on the node \(IP: (\S+), ID: \w+\) was ([\d.]+)GB used / ([\d.]+)GB limit")
_WORKER = re.compile(
    r"task name=(?P<name>.*?), required resources.*?pid=(?P<pid>\d+), actual memory used=(?P<used>[\d.]+)GB"
)
_PROCESS = re.compile(r"^\s*(?P<pid>\d+)\s+(?P<used>[\d.]+)\s+(?P<name>\S.*)$", re.M)


def with_surroundings(error: dict[str, Any], record: Record, records: list[Record]) -> dict[str, Any]:
    """Return a failure for lack of memory with what is known of the node; any other one as it is.

    :param error: as plain data.
    :param record: of the work that has failed.
    :param records: of all work of the owner.
    """
    if error["kind"] != FailureKind.OUT_OF_MEMORY:
        return error
    message = error.get("message", "")
    processes = _processes(message)
    told: dict[str, Any] = {"node": record.node, "reserved": record.options.get("memory")}
    if (node := _NODE.search(message)) is not None:
        told |= {"node": node[1], "node_used": _bytes(node[2]), "node_has": _bytes(node[3])}
    told["used"] = processes.pop(record.pid, (None, ""))[0]
    others = [each for each in records if each is not record and _was_there(each, told["node"])]
    told["works"] = [
        {
            "record_id": each.record_id,
            "reserved": each.options.get("memory"),
            "used": processes.pop(each.pid, (None, ""))[0],
        }
        for each in others
    ]
    told["processes"] = [{"name": name, "used": used} for used, name in processes.values()]
    return {**error, **told}


def _was_there(record: Record, node: str | None) -> bool:
    if node is None or record.node != node:
        return False
    was_ended_too = (record.error or {}).get("kind") == FailureKind.OUT_OF_MEMORY
    return record.state == State.RUNNING or (
        was_ended_too and time.time() - (record.finished_at or 0.0) < TOGETHER_SECONDS
    )


def _processes(message: str) -> dict[int | None, tuple[int, str]]:
    """Return memory and name of each process that the message names, by its pid."""
    found: dict[int | None, tuple[int, str]] = {}
    for pattern in (_PROCESS, _WORKER):
        found |= {int(each["pid"]): (_bytes(each["used"]), each["name"]) for each in pattern.finditer(message)}
    return found


def _bytes(number: str) -> int:
    return round(float(number) * _GIB)
