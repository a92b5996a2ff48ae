"""Manifests for tests, as a user writes them."""

from __future__ import annotations

from typing import Any


def ray_cluster(name: str = "", cpus: int = 2, **more: Any) -> dict[str, Any]:
    """Return the manifest of a RayCluster of a head alone.

    :param more: further fields of ``spec``.
    """
    container = {
        "name": "ray-head",
        "image": "rayproject/ray:2.60.0-py311",
        "resources": {"limits": {"cpu": str(cpus), "memory": "4Gi"}},
    }
    head = {"rayStartParams": {"num-cpus": str(cpus)}, "template": {"spec": {"containers": [container]}}}
    manifest: dict[str, Any] = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {}}
    manifest["spec"] = {"rayVersion": "2.60.0", "headGroupSpec": head, **more}
    if name:
        manifest["metadata"]["name"] = name
    return manifest


def workers(replicas: int = 1) -> dict[str, Any]:
    """Return a group of workers for the manifest."""
    container = {"name": "ray-worker", "image": "rayproject/ray:2.60.0-py311"}
    template = {"spec": {"containers": [container]}}
    counts = {"replicas": replicas, "minReplicas": replicas, "maxReplicas": replicas}
    return {"groupName": "small", "rayStartParams": {}, "template": template, **counts}
