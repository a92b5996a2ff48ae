"""What Ray knows of the objects in its store."""

from __future__ import annotations

from typing import Any


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
