"""What keeps a cluster from running work, told from what Kubernetes knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client.kuberay.origin import namespace_of
from airflow_ray.client.kuberay.pods import Crash, is_head, is_ready, look_at_pod, runs_ray
from airflow_ray.client.kuberay.refusals import QUOTA
from airflow_ray.exceptions import (
    AirflowRayError,
    RayClusterDeletedError,
    RayClusterError,
    RayClusterManifestError,
    RayClusterQuotaError,
    RayClusterTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Resource = Mapping[str, Any]

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


class Look(NamedTuple):
    """What a cluster is like at one moment.

    :param text: what it waits for, or what it has when it can run work.
    :param is_ready: it can run work.
    :param kind: of the error that it is if it stays so.
    :param is_lasting: it stays so.
    :param is_queued: somebody has to admit it first.
    :param crash: what died, for its last lines.
    """

    text: str
    is_ready: bool = False
    kind: type[AirflowRayError] = RayClusterTimeoutError
    is_lasting: bool = False
    crash: Crash | None = None
    is_queued: bool = False


def look_at(cluster: Resource, pods: Sequence[Resource] | None, events: Iterable[Resource]) -> Look:
    """Return what a cluster is like.

    :param cluster: the RayCluster.
    :param pods: its pods; None where they may not be read.
    :param events: of the cluster and its head's pod, in any order; none where they may not be read.
    """
    if cluster["metadata"].get("deletionTimestamp"):
        return Look("somebody has deleted it", kind=RayClusterDeletedError, is_lasting=True)
    if cluster["spec"].get("suspend"):
        return Look(_queued(cluster), is_queued=True)
    warnings = sorted((each for each in events if each.get("type") == "Warning"), key=_last_seen)
    head = next((pod for pod in pods or () if is_head(pod) and not _is_going(pod)), None)
    if head is not None:
        if is_ready(head):
            return Look(_workers(cluster), is_ready=True)
        name = head["metadata"]["name"]
        return Look(*look_at_pod(head, [each.get("message", "") for each in warnings if _about(each) == name]))
    if pods is None and _is_head_said_ready(cluster):
        return Look(_workers(cluster), is_ready=True)
    return _without_head(cluster, warnings, may_be_there=pods is None)


def is_head_running(cluster: Resource, pods: Sequence[Resource] | None) -> bool:
    """Return whether a cluster may hold objects, or run work: its head runs, be it ready or not.

    :param pods: its pods; None where they may not be read.
    """
    if pods is None:
        was_ready = _condition(cluster, "HeadPodReady") or _condition(cluster, "RayClusterProvisioned")
        return bool(was_ready) or _status(cluster).get("state") == "ready"
    return any(is_head(pod) and not _is_going(pod) and runs_ray(pod) for pod in pods)


def _is_head_said_ready(cluster: Resource) -> bool:
    # The state stays as it was when a pod dies; older releases of KubeRay tell nothing else.
    is_ready = _status(cluster).get("state") == "ready" and not _condition(cluster, "HeadPodReady", "False")
    return is_ready or _condition(cluster, "HeadPodReady") is not None


def _without_head(cluster: Resource, warnings: list[Resource], may_be_there: bool) -> Look:
    told = [each for each in warnings if _about(each) == cluster["metadata"]["name"]]
    failed = _refused(cluster, told) or _not_made(cluster, told)
    if failed is not None:
        return failed
    if reason := _status(cluster).get("reason"):
        return Look(f"KubeRay says: {reason}")
    if not _status(cluster):
        return Look(
            "KubeRay has not taken notice of it yet. If that lasts, its operator does not run, or does not watch the "
            f"namespace {namespace_of(cluster)}"
        )
    if may_be_there and (condition := _condition(cluster, "HeadPodReady", "False")):
        return Look(f"its head is not ready: {condition['reason']}: {condition.get('message', '')}".rstrip(": "))
    return Look("KubeRay makes the pod of its head")


def _refused(cluster: Resource, told: list[Resource]) -> Look | None:
    observed = _status(cluster).get("observedGeneration")
    # Those of an earlier manifest are kept for an hour.
    if observed is not None and observed >= cluster["metadata"].get("generation", 0):
        return None
    for each in reversed(told):
        if str(each.get("reason", "")).startswith("InvalidRayCluster"):
            text = f"KubeRay refuses the manifest: {each.get('message', '')}"
            return Look(text, kind=RayClusterManifestError, is_lasting=True)
    return None


def _not_made(cluster: Resource, told: list[Resource]) -> Look | None:
    # The second is how KubeRay's own documents call it.
    failure = _condition(cluster, "ReplicaFailure") or _condition(cluster, "RayClusterReplicaFailure")
    message = failure["message"] if failure else told[-1].get("message", "") if told else None
    if message is None:
        return None
    if QUOTA in message:
        return Look(f"a quota of Kubernetes leaves no room for it: {message}", kind=RayClusterQuotaError)
    return Look(f"KubeRay cannot make its pods: {message}", kind=RayClusterError)


def _queued(cluster: Resource) -> str:
    queue = _labels(cluster).get(KUEUE_QUEUE)
    if queue is None:
        return "it is suspended (spec.suspend), and somebody has to resume it"
    return f"Kueue has not admitted it yet: it is in the queue {queue}"


def _workers(cluster: Resource) -> str:
    status = _status(cluster)
    return f"{status.get('readyWorkerReplicas', 0)} of {status.get('desiredWorkerReplicas', 0)} worker pods are ready"


def _status(cluster: Resource) -> dict[str, Any]:
    return cluster.get("status") or {}


def _condition(cluster: Resource, kind: str, status: str = "True") -> Resource | None:
    """Return a condition of a cluster if it holds, or has the status that is asked for."""
    conditions: list[Resource] = _status(cluster).get("conditions") or []
    return next((each for each in conditions if (each["type"], each["status"]) == (kind, status)), None)


def _labels(resource: Resource) -> dict[str, str]:
    return resource["metadata"].get("labels") or {}


def _is_going(pod: Resource) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _about(event: Resource) -> str | None:
    name: str | None = event.get("involvedObject", {}).get("name")
    return name


def _last_seen(event: Resource) -> str:
    moments = "lastTimestamp", "eventTime", "firstTimestamp"
    written = (event.get("series") or {}).get("lastObservedTime")
    return str(written or next((event[name] for name in moments if event.get(name)), ""))
