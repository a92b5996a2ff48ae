"""What Kubernetes knows of a cluster, as it writes it, for decisions that need no Kubernetes."""

from __future__ import annotations

from typing import Any

NAME, HEAD, UID = "sales", "sales-head-x2x7q", "uid-of-the-cluster"


def cluster(status: dict[str, Any] | None = None, *conditions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a RayCluster.

    :param more: fields of its spec, or ``labels`` and ``deletionTimestamp`` of its metadata.
    """
    metadata: dict[str, Any] = {"name": NAME, "namespace": "ray", "uid": UID, "generation": 1}
    metadata |= {key: more.pop(key) for key in ("labels", "deletionTimestamp", "finalizers") if key in more}
    if conditions:
        status = {**(status or {}), "conditions": list(conditions)}
    return {"metadata": metadata, "spec": more, **({} if status is None else {"status": status})}


def condition(kind: str, status: str = "True", reason: str = "Reason", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def pod(name: str = HEAD, node_type: str = "head", **status: Any) -> dict[str, Any]:
    labels = {"ray.io/cluster": NAME, "ray.io/node-type": node_type}
    owners = [{"kind": "RayCluster", "uid": UID}]
    return {"metadata": {"name": name, "uid": f"uid-of-{name}", "labels": labels, "ownerReferences": owners}} | {
        "status": {"phase": "Pending", **status}
    }


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "ray-head", "image": "ray:x", "ready": False, "restartCount": 0, "state": state, **more}


def with_container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return pod(containerStatuses=[container(state, **more)])


def ready_pod() -> dict[str, Any]:
    return pod(phase="Running", conditions=[condition("Ready")])


def warning(reason: str, message: str, about: str = NAME, at: str = "2026-05-01T00:00:00Z") -> dict[str, Any]:
    involved = {"name": about}
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": involved, "lastTimestamp": at}


def ended(code: int = 1, reason: str = "Error", container_id: str = "containerd://1") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "containerID": container_id}}
