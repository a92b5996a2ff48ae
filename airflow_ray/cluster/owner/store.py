"""What Ray knows of the objects in its store."""

from __future__ import annotations

from typing import Any

# What is asked for is in this process, or on this node.
LOOK_MILLISECONDS = 100


def sizes_of(refs: list[Any]) -> list[int]:
    """Return the size of each object of this process in bytes, 0 for one that Ray knows none of."""
    import ray

    locations = ray.experimental.get_local_object_locations(refs)
    return [locations.get(ref, {}).get("object_size") or 0 for ref in refs]


def by_node(refs: list[Any]) -> list[list[Any]]:
    """Return the objects that lie on the same node together."""
    import ray

    locations = ray.experimental.get_object_locations(refs)
    groups: dict[str, list[Any]] = {}
    for ref in refs:
        node_ids = locations.get(ref, {}).get("node_ids") or [""]
        groups.setdefault(node_ids[0], []).append(ref)
    return list(groups.values())


def places_of(refs: list[Any]) -> list[tuple[str | None, bool]]:
    """Return the address of a node that each object of this process lies on, and whether it was ever spilled to disk.

    A small object lies in the memory of its owner, and has no node.
    """
    import ray

    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    locations = ray.experimental.get_local_object_locations(refs)
    places: list[tuple[str | None, bool]] = []
    for location in (locations.get(ref, {}) for ref in refs):
        node_ids = location.get("node_ids") or [""]
        places.append((addresses.get(node_ids[0]), bool(location.get("did_spill"))))
    return places


def spilled_bytes() -> int:
    """Return how much all nodes together have written to disk, since they started, for lack of room in the store."""
    import ray
    from ray._private.internal_api import get_memory_info_reply

    return int(get_memory_info_reply(ray._private.state.state).store_stats.spilled_bytes_total)


def are_there(refs: list[Any]) -> list[bool]:
    """Return whether each object of this process is there, or an error in its place; one that is made again is not."""
    ready = _ready(refs)
    return [ref in ready for ref in refs]


def are_lost(refs: list[Any]) -> bool:
    """Whether one of the objects is gone for good: Ray has put an error in its place.

    Only Ray's tables are asked, and of an object its mark, which tells values from errors: nothing is unpickled, and
    nothing is moved to this node. One that Ray is making again counts as there.
    """
    import ray
    from ray._private.worker import global_worker
    from ray.exceptions import GetTimeoutError

    ready = _ready(refs)
    locations = ray.experimental.get_local_object_locations(ready)
    here = ray.get_runtime_context().get_node_id()
    near = [ref for ref in ready if _may_be_an_error(locations.get(ref, {}), here)]
    try:
        marks = [mark for _, mark, *_ in global_worker.core_worker.get_objects(near, LOOK_MILLISECONDS)] if near else []
    # What is not here at once is a value on its way: an error is small.
    except GetTimeoutError:
        return False
    # The name of how a value is pickled, or the number of an error.
    return any(mark and mark.partition(b",")[0].isdigit() for mark in marks)


def _ready(refs: list[Any]) -> list[Any]:
    """Return once each those of the objects that are there, wherever, or have an error in their place."""
    import ray

    names = list(dict.fromkeys(refs))
    ready, _ = ray.wait(names, num_returns=len(names), timeout=0, fetch_local=False)
    return list(ready)


def _may_be_an_error(location: dict[str, Any], here: str) -> bool:
    """Whether an object lies where Ray puts errors: in the memory of the owner, which is no node, or in its store."""
    nodes = location.get("node_ids")
    return here in nodes if nodes else not location.get("did_spill")
