"""Waiting for a cluster: what is told, and when there is no sense in waiting on."""

from __future__ import annotations

import asyncio

import pytest

from airflow_ray.client.kuberay.api import AWAY_SECONDS
from airflow_ray.client.kuberay.waiting import IMAGE_SECONDS, ClusterWait
from airflow_ray.exceptions import (
    KubernetesUnreachableError,
    RayClusterCrashedError,
    RayClusterDeletedError,
    RayClusterImageError,
    RayClusterManifestError,
    RayClusterPermissionError,
    RayClusterTimeoutError,
)
from tests.client.kuberay.resources import HEAD, UID, cluster, ended, pod, ready_pod, warning, with_container

NOTICED = {"observedGeneration": 1}


class FakeClusters:
    """What Kubernetes says, look by look; the last of it for good. An exception is raised."""

    namespace = "ray"
    warnings = []

    def __init__(self, *looks):
        self._looks = list(looks)
        self.pods_now = []
        self.lines_read = 0

    def look_up(self, name):
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(look, Exception):
            raise look
        found, self.pods_now = look
        return found

    def pods(self, name, uid):
        return self.pods_now

    def events(self, name, pods):
        return [] if pods else self.warnings

    def why_queued(self, cluster):
        return "no quota is left"

    def last_lines(self, crash):
        self.lines_read += 1
        return ". It has written at last:\nlast line"


class Clock:
    """Goes on by a second each time that it is looked at, or as it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def waited(*looks, goal="ready", timeout=1e6, clock=None):
    """Return what has been told, and what the wait returned."""
    told = []
    clusters = FakeClusters(*looks)
    wait = ClusterWait(clusters, "sales", UID, goal, timeout, clock or Clock())
    told.append(asyncio.run(wait.run(0.0, told.append)))
    return told


def failure_of(kind, *looks, **more):
    with pytest.raises(kind) as failed:
        waited(*looks, **more)
    return str(failed.value)


READY = (cluster(NOTICED), [ready_pod()])
STARTING = (cluster(NOTICED), [pod(phase="Running")])
NO_IMAGE = (cluster(NOTICED), [with_container({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})])
AWAY = KubernetesUnreachableError("The API server cannot be reached")


def died(number):
    return cluster(NOTICED), [with_container(ended(container_id=f"containerd://{number}"))]


def test_each_thing_that_is_waited_for_is_told_once():
    runs = f"its head ({HEAD}) runs, and is not ready yet"
    assert waited((cluster(), []), STARTING, STARTING, STARTING, READY)[1:] == [runs, "0 of 0 worker pods are ready"]


def test_queue_is_told_with_what_kueue_says():
    queued = (cluster(NOTICED, suspend=True, labels={"kueue.x-k8s.io/queue-name": "gpus"}), [])
    assert waited(queued, READY)[0].endswith("it is in the queue gpus: no quota is left")


def test_what_is_waited_for_at_the_end_of_the_time_is_the_error():
    text = failure_of(RayClusterTimeoutError, STARTING, timeout=20)
    what = f"its head ({HEAD}) runs, and is not ready yet"
    assert text == f"The Ray cluster sales in the namespace ray cannot run work in time: {what}"


def test_image_that_cannot_be_pulled_at_the_end_of_the_time_is_an_error_of_its_own():
    assert "not found" in failure_of(RayClusterImageError, NO_IMAGE, timeout=20)


def test_image_that_cannot_be_pulled_for_long_fails_before_the_end_of_the_time():
    clock = Clock()
    failure_of(RayClusterImageError, NO_IMAGE, clock=clock)
    assert IMAGE_SECONDS < clock.now < 3 * IMAGE_SECONDS


def test_image_that_can_be_pulled_after_a_while_is_forgiven():
    looks = [NO_IMAGE] * 20 + [STARTING] + [NO_IMAGE] * 20
    assert waited(*looks, READY)[-1] == "0 of 0 worker pods are ready"


def test_head_may_die_and_come_again():
    assert waited(died(1), STARTING, died(2), READY)[-1] == "0 of 0 worker pods are ready"


def test_one_death_that_is_seen_often_is_one():
    assert waited(*[died(1)] * 10, READY)[-1] == "0 of 0 worker pods are ready"


def test_head_that_dies_again_and_again_fails_with_its_last_lines():
    assert failure_of(RayClusterCrashedError, died(1), died(2), died(3), READY).endswith("at last:\nlast line")


def test_manifest_that_kuberay_refuses_fails_at_once(monkeypatch):
    monkeypatch.setattr(FakeClusters, "warnings", [warning("InvalidRayClusterSpec", "invalid")])
    failure_of(RayClusterManifestError, (cluster(), []))


@pytest.mark.parametrize("now", [None, {**cluster(NOTICED), "metadata": {**cluster()["metadata"], "uid": "another"}}])
def test_cluster_that_somebody_deletes_meanwhile_is_told(now):
    assert "somebody has deleted it" in failure_of(RayClusterDeletedError, STARTING, (now, []))


def test_api_server_that_is_away_for_a_while_is_told_and_waited_for():
    assert waited(STARTING, AWAY, AWAY, READY)[1] == "The API server cannot be reached. Asking again"


def test_api_server_that_stays_away_is_an_error():
    clock = Clock()
    failure_of(KubernetesUnreachableError, STARTING, AWAY, clock=clock)
    assert clock.now > AWAY_SECONDS


def test_refusal_is_an_error_at_once():
    failure_of(RayClusterPermissionError, RayClusterPermissionError("forbidden"))


def test_end_is_waited_for_with_that_of_the_pods():
    going = cluster(NOTICED, deletionTimestamp="2026-05-01T00:00:00Z", finalizers=["ray.io/redis"])
    assert waited((going, [pod()]), (None, [pod()]), (None, []), goal="gone") == [
        "Kubernetes deletes it, which ray.io/redis has to allow",
        f"its pods have not ended: {HEAD}",
        "it is gone",
    ]


def test_end_does_not_wait_for_another_cluster_of_the_same_name():
    another = {**cluster(NOTICED), "metadata": {**cluster()["metadata"], "uid": "another"}}
    assert waited((another, []), goal="gone") == ["it is gone"]


def test_cluster_that_does_not_go_in_time_is_an_error():
    assert "is not gone in time" in failure_of(RayClusterTimeoutError, (None, [pod()]), goal="gone", timeout=10)
