"""What keeps the pod of a head from being ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.exceptions import (
    AirflowRayError,
    RayClusterCrashedError,
    RayClusterError,
    RayClusterImageError,
    RayClusterTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Resource = Mapping[str, Any]

_NO_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
# No other try of Kubernetes would end better.
_NEVER_AN_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_BEGINNING = frozenset({"ContainerCreating", "PodInitializing"})
_BACK_OFF = "CrashLoopBackOff"
# What Ray writes, its command and its server of Ray Client, where the processes of a head have not found each other
# within half a minute. It has no setting for that.
SLOW_STARTS = "The current node timed out during startup", "Timed out waiting for node info"


class Crash(NamedTuple):
    """The end of a process that should go on.

    :param pod: in which.
    :param container: in which; None where nothing tells.
    :param has_begun_anew: another process has come in its place.
    :param key: tells it from other crashes.
    """

    pod: str
    container: str | None
    has_begun_anew: bool
    key: str


class PodLook(NamedTuple):
    """What a pod that is not ready is like: the fields are those of :class:`~airflow_ray.client.kuberay.state.Look`."""

    text: str
    is_ready: bool = False
    kind: type[AirflowRayError] = RayClusterTimeoutError
    is_lasting: bool = False
    crash: Crash | None = None


def is_head(pod: Resource) -> bool:
    """Return whether a pod is that of the head."""
    return bool((pod["metadata"].get("labels") or {}).get("ray.io/node-type") == "head")


def belongs_to(resource: Resource, uid: str) -> bool:
    """Return whether something was made for whatever has a uid."""
    return any(owner.get("uid") == uid for owner in resource["metadata"].get("ownerReferences") or ())


def is_ready(pod: Resource) -> bool:
    """Return whether a pod answers."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def runs_ray(pod: Resource) -> bool:
    """Return whether the process of Ray in a pod runs, be the pod ready or not: Ray's container is the first one."""
    ray = pod["spec"]["containers"][0]["name"]
    return any(each["name"] == ray and "running" in each.get("state", {}) for each in _containers(pod))


def look_at_pod(pod: Resource, warnings: list[str]) -> PodLook:
    """Return what a pod is like that is not ready.

    :param warnings: what Kubernetes warns of, the newest last.
    """
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return PodLook(f"no node has room for its head ({name}): {condition.get('message', 'no reason is given')}")
    for container in _containers(pod):
        look = _look_at_container(pod, container)
        if look is not None:
            return look
    if status.get("phase") == "Failed":
        # Evicted, for example: KubeRay makes another pod.
        reason = ": ".join(status[field] for field in ("reason", "message") if status.get(field))
        crash = Crash(name, None, False, pod["metadata"].get("uid", name))
        return PodLook(f"the pod of its head ({name}) has failed: {reason}", kind=RayClusterCrashedError, crash=crash)
    if status.get("phase") == "Running":
        return PodLook(f"its head ({name}) runs, and is not ready yet")
    told = f": {warnings[-1]}" if warnings else ""
    return PodLook(f"the containers of its head ({name}) are made{told}")


def _look_at_container(pod: Resource, container: Resource) -> PodLook | None:
    name = pod["metadata"]["name"]
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason"), waiting.get("message") or ""
    if reason in _NO_IMAGE:
        text = f"the image {container.get('image')} of its head ({name}) cannot be pulled: {reason}: {message}"
        return PodLook(text.rstrip(": "), kind=RayClusterImageError, is_lasting=reason in _NEVER_AN_IMAGE)
    now, before = (container.get(field, {}).get("terminated") for field in ("state", "lastState"))
    ended = now or before
    if (ended and ended.get("exitCode") != 0) or reason == _BACK_OFF or (before and not container.get("ready")):
        which = (ended or {}).get("containerID") or (ended or {}).get("finishedAt") or container.get("restartCount", 0)
        crash = Crash(name, container["name"], not now, f"{pod['metadata'].get('uid', name)}/{which}")
        text = f"the container {container['name']} of its head ({name}) has died{_how(ended or {})}"
        return PodLook(text, kind=RayClusterCrashedError, crash=crash)
    if reason and reason not in _BEGINNING:
        text = f"the container {container['name']} of its head ({name}) cannot be started: {reason}: {message}"
        return PodLook(text.rstrip(": "), kind=RayClusterError)
    return None


def _how(ended: Resource) -> str:
    if not ended:
        return ""
    reason = ended.get("reason", "Error")
    return f" with the exit code {ended.get('exitCode')}{'' if reason == 'Error' else f' ({reason})'}"


def _containers(pod: Resource) -> Iterator[Resource]:
    status = pod.get("status", {})
    for field in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(field) or []
