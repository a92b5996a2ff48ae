"""What the nodes of the cluster have, and whether that is enough."""

from __future__ import annotations


def fits(asked: dict[str, float], node: dict[str, float]) -> bool:
    """Whether a node has all that is asked."""
    return all(node.get(name, 0) >= amount for name, amount in asked.items())


def plain(resources: dict[str, float]) -> dict[str, float]:
    """Leave out the names that Ray gives each node for itself."""
    return {name: amount for name, amount in resources.items() if not name.startswith("node:")}


def nodes_without(asked: dict[str, float]) -> list[dict[str, float]] | None:
    """Return what the nodes have if none of them has, or can get, the resources ``asked``, and else None."""
    nodes = resources_by_node()
    if any(fits(asked, node) for node in nodes) or autoscaler_may_add(asked):
        return None
    return [plain(node) for node in nodes]


def resources_by_node() -> list[dict[str, float]]:
    """Return what each node that is alive has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def autoscaler_may_add(asked: dict[str, float]) -> bool:
    """Whether the autoscaler may start a node that has all that is asked."""
    from ray._private.state import state

    addable = state.get_max_resources_from_cluster_config()
    return addable is not None and fits(asked, addable)
