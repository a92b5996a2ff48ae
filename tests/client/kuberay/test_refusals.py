"""What Kubernetes' refusals are to a user."""

from __future__ import annotations

import json

import pytest

from airflow_ray.client.kuberay.refusals import ConflictError, NotThereError, error_of
from airflow_ray.exceptions import (
    KubeRayMissingError,
    KubernetesUnreachableError,
    RayClusterError,
    RayClusterManifestError,
    RayClusterPermissionError,
    RayClusterQuotaError,
)

QUOTA = 'rayclusters.ray.io "x" is forbidden: exceeded quota: team, requested: count/rayclusters.ray.io=1'
UNTYPABLE = "failed to create typed patch object (ray/x; ray.io/v1, Kind=RayCluster): .spec.typo: field not declared"


def status(message: str, **details: str) -> str:
    return json.dumps({"kind": "Status", "message": message, **({"details": details} if details else {})})


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (403, status("rayclusters.ray.io is forbidden: User cannot patch"), RayClusterPermissionError),
        (401, status("Unauthorized"), RayClusterPermissionError),
        (403, status(QUOTA), RayClusterQuotaError),
        (404, "404 page not found\n", KubeRayMissingError),
        (404, status("the server could not find the requested resource"), KubeRayMissingError),
        (404, status('namespaces "ray" not found', name="ray", kind="namespaces"), RayClusterManifestError),
        (404, status('rayclusters.ray.io "x" not found', name="x", kind="rayclusters"), NotThereError),
        (409, status("conflict"), ConflictError),
        (400, status("strict decoding error: unknown field"), RayClusterManifestError),
        (422, status("spec.headGroupSpec: Required value"), RayClusterManifestError),
        (500, status(UNTYPABLE), RayClusterManifestError),
        (403, status('admission webhook "vraycluster.kb.io" denied the request: spec'), RayClusterManifestError),
        (500, status("etcdserver: request timed out"), KubernetesUnreachableError),
        (503, "upstream connect error", KubernetesUnreachableError),
        (429, status("too many requests"), KubernetesUnreachableError),
        (415, status("unsupported media type"), RayClusterError),
        (0, "certificate verify failed", RayClusterError),
        (502, "[1, 2]", KubernetesUnreachableError),
    ],
)
def test_refusal_has_the_class_that_fits(code, body, kind):
    assert type(error_of(code, body, "kubernetes_default")) is kind


def test_refusal_says_what_kubernetes_says_and_what_to_do():
    text = str(error_of(403, status("User cannot patch {resource}"), "kubernetes_default"))
    assert "User cannot patch {resource}" in text
    assert "'kubernetes_default'" in text
    assert "rayclusters.ray.io" in text
