"""What a process on the cluster sees of itself and of the cluster."""

from __future__ import annotations

import platform
from typing import Any


def inspection() -> dict[str, Any]:
    """Return versions, nodes and resources as plain data."""
    import ray

    return {
        "ray": ray.__version__,
        "python": platform.python_version(),
        "node": ray.util.get_node_ip_address(),
        "nodes": sum(node["Alive"] for node in ray.nodes()),
        "total": ray.cluster_resources(),
        "free": ray.available_resources(),
    }
