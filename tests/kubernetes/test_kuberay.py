"""The stand-in for KubeRay says of a cluster what KubeRay says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.kubelet import Fate, Trouble
from tests.kubernetes.kuberay import WORKLOADS
from tests.kubernetes.manifests import ray_cluster, workers
from tests.kubernetes.store import EVENTS, PODS, RAY_CLUSTERS, SERVICES, Write

# Of what only stands in for KubeRay.
pytestmark = pytest.mark.slow

SECONDS = 300


def create(api: ApiServer, name: str, **more: Any) -> None:
    api.store.create(RAY_CLUSTERS, "default", ray_cluster(name, **more), Write("tests"))


def status_of(api: ApiServer, name: str) -> dict[str, Any]:
    status: dict[str, Any] = api.store.get(RAY_CLUSTERS, "default", name).get("status", {})
    return status


def conditions_of(api: ApiServer, name: str) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status_of(api, name).get("conditions", [])}


def await_that(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_cluster_gets_a_pod_and_a_service_and_becomes_ready(api, kuberay):
    create(api, "a", workerGroupSpecs=[workers(2)])
    await_that(lambda: status_of(api, "a").get("state") == "ready")
    assert conditions_of(api, "a") == {
        "HeadPodReady": ("True", "HeadPodRunningAndReady"),
        "RayClusterProvisioned": ("True", "AllPodRunningAndReadyFirstTime"),
    }
    assert status_of(api, "a")["endpoints"]["dashboard"] == "8265"
    assert api.store.get(SERVICES, "default", status_of(api, "a")["head"]["serviceName"])
    assert len(api.store.list(PODS)) == 3


def test_worker_that_does_not_start_leaves_the_head_ready(api, kuberay):
    kuberay.kubelet.fates["a"] = Fate(of_workers=Trouble.UNSCHEDULABLE)
    create(api, "a", workerGroupSpecs=[workers(1)])
    await_that(lambda: conditions_of(api, "a").get("HeadPodReady") == ("True", "HeadPodRunningAndReady"))
    assert conditions_of(api, "a")["RayClusterProvisioned"] == ("False", "RayClusterPodsProvisioning")
    assert status_of(api, "a")["state"] == ""


def test_all_of_a_cluster_goes_with_it(api, kuberay):
    create(api, "a")
    await_that(lambda: status_of(api, "a").get("state") == "ready")
    api.store.delete(RAY_CLUSTERS, "default", "a")
    await_that(lambda: not api.store.list(PODS))
    assert api.store.list(SERVICES) == []


@pytest.mark.parametrize(
    ("trouble", "reason", "event"),
    [
        (Trouble.UNSCHEDULABLE, "Unknown", "FailedScheduling"),
        (Trouble.NO_IMAGE, "ContainersNotReady", "Failed"),
        (Trouble.CRASH, "ContainersNotReady", "BackOff"),
    ],
)
def test_head_that_does_not_start_tells_why_and_goes_on_when_it_can(api, kuberay, trouble, reason, event):
    kuberay.kubelet.fates["a"] = Fate(trouble)
    create(api, "a")
    await_that(lambda: conditions_of(api, "a").get("HeadPodReady") == ("False", reason))
    await_that(lambda: [each["reason"] for each in api.store.list(EVENTS)] == [event])
    del kuberay.kubelet.fates["a"]
    await_that(lambda: status_of(api, "a").get("state") == "ready")


def test_head_waits_for_a_secret_that_is_missing(api, kuberay):
    manifest = ray_cluster("a")
    reference = {"secretKeyRef": {"name": "token", "key": "token"}}
    container = manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "TOKEN", "valueFrom": reference}]
    api.store.create(RAY_CLUSTERS, "default", manifest, Write("tests"))
    await_that(lambda: conditions_of(api, "a").get("HeadPodReady") == ("False", "ContainersNotReady"))
    assert (
        'secrets "token" not found'
        in api.store.list(PODS)[0]["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    )


def test_quota_of_pods_is_told_by_the_cluster(api, kuberay):
    api.store.quota[PODS, "default"] = 0
    create(api, "a")
    await_that(lambda: conditions_of(api, "a").get("ReplicaFailure") == ("True", "FailedCreateHeadPod"))


def test_cluster_in_a_queue_waits_until_it_is_admitted(api, kuberay):
    manifest = ray_cluster("a")
    manifest["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "small"}
    api.store.create(RAY_CLUSTERS, "default", manifest, Write("tests"))
    await_that(lambda: status_of(api, "a").get("state") == "suspended")
    assert "insufficient unused quota" in api.store.list(WORKLOADS)[0]["status"]["conditions"][0]["message"]
    kuberay.admit("default", "a")
    await_that(lambda: status_of(api, "a").get("state") == "ready")
