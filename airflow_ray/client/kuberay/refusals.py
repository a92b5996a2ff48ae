"""What Kubernetes' API says when it does not do what was asked, as errors in words."""

from __future__ import annotations

import json
from typing import Any

from airflow_ray.exceptions import (
    AirflowRayError,
    KubeRayMissingError,
    KubernetesUnreachableError,
    RayClusterError,
    RayClusterManifestError,
    RayClusterPermissionError,
    RayClusterQuotaError,
)

QUOTA = "exceeded quota"


class NotThereError(RayClusterError):
    """There is no object of that name."""


class ConflictError(RayClusterError):
    """What was asked for does not fit what is there now."""


_FORBIDDEN = (
    "Kubernetes does not allow this to whom the connection {conn_id!r} names: {}. Give its role the verbs get, list, "
    "patch, create and delete for rayclusters.ray.io, patch and create for secrets, and get and list for pods, their "
    "logs and events"
)
_REFUSALS: dict[int, tuple[type[AirflowRayError], str]] = {
    0: (RayClusterError, "The API server of Kubernetes is not trusted: {}"),
    400: (RayClusterManifestError, "Kubernetes refuses the manifest: {}"),
    401: (RayClusterPermissionError, "Kubernetes does not accept the credentials of the connection {conn_id!r}: {}"),
    403: (RayClusterPermissionError, _FORBIDDEN),
    404: (NotThereError, "Kubernetes: {}"),
    409: (ConflictError, "Kubernetes: {}"),
    422: (RayClusterManifestError, "Kubernetes refuses the manifest: {}"),
    429: (KubernetesUnreachableError, "Kubernetes is busy: {}"),
}


def error_of(status: int, body: str, conn_id: str) -> AirflowRayError:
    """Return what an answer of Kubernetes says that is none of success.

    :param status: of HTTP.
    :param body: of the answer.
    :param conn_id: the Airflow connection that was used.
    :returns: an error of the class that fits.
    """
    answer = _status_in(body)
    message = answer.get("message") or body.strip() or f"HTTP status {status}"
    if status == 404 and (answer.get("details") or {}).get("kind") == "namespaces":
        return RayClusterManifestError(f"Kubernetes has no such namespace: {message}")
    if status == 404 and not (answer.get("details") or {}).get("name"):
        return KubeRayMissingError(
            f"Kubernetes at the connection {conn_id!r} knows no rayclusters.ray.io/v1 ({message}). Install KubeRay "
            "there, with its custom resource definitions"
        )
    if status == 403 and QUOTA in message:
        return RayClusterQuotaError(f"A quota of Kubernetes leaves no room: {message}")
    # Of a field that it does not know, the API server says that as an error of its own; and of what a webhook does not
    # admit, such as Kueue's, that it is forbidden.
    if (status == 500 and "typed patch object" in message) or (status == 403 and "denied the request" in message):
        status = 422
    kind, text = _REFUSALS.get(status, (KubernetesUnreachableError, "Kubernetes cannot answer at the moment: {}"))
    if status < 500 and status not in _REFUSALS:
        kind, text = RayClusterError, "Kubernetes refuses: {}"
    return kind(text.format(message, conn_id=conn_id))


def _status_in(body: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
