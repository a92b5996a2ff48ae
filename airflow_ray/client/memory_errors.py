"""The error for work that Ray has ended because the memory of its node was full: who was there, and with how much."""

from __future__ import annotations

from typing import Any

from airflow_ray.client.used import memory_size
from airflow_ray.exceptions import RayOutOfMemoryError
from airflow_ray.object_uri import ObjectURI

MAX_OTHERS = 5
# Of other programs, what is worth a word beside a node that is full.
LARGE_PART = 0.05


def out_of_memory(uri: Any, error: dict[str, Any]) -> RayOutOfMemoryError:
    """Return the error, with what the cluster knows of that moment; an owner of an earlier release knows less."""
    node = f" {error['node']}" if error.get("node") else ""
    parts = [f"Ray stopped the callable because its node{node} ran out of memory{_filling(error)}."]
    if "reserved" in error:
        parts.append(f"The task had reserved {_amount(error['reserved'])}{_used(error.get('used'))}.")
    if others := _others(error):
        more = f"; and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
        parts.append(f"Others that were there: {'; '.join(others[:MAX_OTHERS])}{more}.")
    parts.append("Reserve what it needs with memory=<bytes>, or use a larger node.")
    if "starts" in error:
        parts.append(f"It was tried {error['starts']} times.")
    # What is of use in a page of Ray's is told above.
    if "node_used" not in error and (message := error.get("message")):
        parts.append(message)
    return RayOutOfMemoryError(" ".join(parts))


def _filling(error: dict[str, Any]) -> str:
    if "node_used" not in error:
        return ""
    return f": {memory_size(error['node_used'])} of {memory_size(error['node_has'])} were in use there"


def _others(error: dict[str, Any]) -> list[str]:
    """Return who else was there, those with the most memory first."""
    least = LARGE_PART * error.get("node_used", 0)
    works = [(each["used"] or 0, _work(each)) for each in error.get("works", ())]
    found = [(each["used"], each["name"]) for each in error.get("processes", ()) if each["used"] > least]
    processes = [(used, f"{name!r} with {memory_size(used)}") for used, name in found]
    return [text for _, text in sorted([*works, *processes], key=lambda each: -each[0])]


def _work(work: dict[str, Any]) -> str:
    # Whatever connection leads to it.
    other = ObjectURI.of_record("ray", work["record_id"])
    mapped = f" with map index {other.map_index}" if other.map_index >= 0 else ""
    name = f"task {other.task_id!r}{mapped} of DAG {other.dag_id!r} in run {other.run_id!r}"
    return f"{name}, which had reserved {_amount(work['reserved'])}{_used(work['used'])}"


def _amount(reserved: int | None) -> str:
    return memory_size(reserved) if reserved else "no memory"


def _used(used: int | None) -> str:
    return "" if used is None else f" and used {memory_size(used)}"
