"""What a cluster waits for, told from what Kubernetes knows of it."""

from __future__ import annotations

import pytest

from airflow_ray.client.kuberay.state import look_at
from airflow_ray.exceptions import (
    RayClusterCrashedError,
    RayClusterDeletedError,
    RayClusterError,
    RayClusterImageError,
    RayClusterManifestError,
    RayClusterQuotaError,
    RayClusterTimeoutError,
)
from tests.client.kuberay.resources import (
    HEAD,
    cluster,
    condition,
    ended,
    pod,
    ready_pod,
    warning,
    with_container,
)

QUOTA = 'pods "sales-head" is forbidden: exceeded quota: team, requested: cpu=2, used: cpu=8, limited: cpu=8'
NOTICED = {"observedGeneration": 1}


def test_cluster_with_a_head_that_is_ready_can_run_work():
    status = {"readyWorkerReplicas": 1, "desiredWorkerReplicas": 3}
    look = look_at(cluster(status), [ready_pod(), pod("sales-worker", "worker")], [])
    assert look.is_ready
    assert look.text == "1 of 3 worker pods are ready"


def test_head_of_which_the_status_says_more_than_its_pod_is_not_ready():
    look = look_at(cluster({"state": "ready"}, condition("HeadPodReady")), [pod(phase="Running")], [])
    assert not look.is_ready


def test_worker_that_is_ready_is_no_head():
    worker = {**ready_pod(), "metadata": pod("sales-worker", "worker")["metadata"]}
    assert not look_at(cluster(NOTICED), [worker], []).is_ready


def test_pod_that_is_going_is_no_head():
    going = ready_pod()
    going["metadata"]["deletionTimestamp"] = "2026-05-01T00:00:00Z"
    assert not look_at(cluster(NOTICED), [going], []).is_ready


@pytest.mark.parametrize("known", [cluster({}, condition("HeadPodReady")), cluster({"state": "ready"})])
def test_where_pods_may_not_be_read_the_status_tells(known):
    assert look_at(known, None, []).is_ready
    assert not look_at(cluster(NOTICED, condition("HeadPodReady", "False")), None, []).is_ready


def test_where_pods_may_not_be_read_a_head_that_has_died_is_not_ready_though_the_state_stays():
    assert not look_at(cluster({"state": "ready"}, condition("HeadPodReady", "False")), None, []).is_ready


def test_where_pods_may_not_be_read_the_condition_of_the_head_is_told():
    known = cluster(NOTICED, condition("HeadPodReady", "False", "ContainersNotReady", "no image"))
    assert look_at(known, None, []).text == "its head is not ready: ContainersNotReady: no image"


def test_cluster_that_somebody_deletes_is_lost():
    look = look_at(cluster(deletionTimestamp="2026-05-01T00:00:00Z"), [ready_pod()], [])
    assert look.is_lasting
    assert look.kind is RayClusterDeletedError


def test_cluster_in_a_queue_of_kueue_is_told_with_its_queue():
    look = look_at(cluster(NOTICED, suspend=True, labels={"kueue.x-k8s.io/queue-name": "gpus"}), [], [])
    assert look.text == "Kueue has not admitted it yet: it is in the queue gpus"
    assert look.is_queued
    assert look.kind is RayClusterTimeoutError


def test_cluster_that_is_suspended_without_a_queue_waits_for_somebody():
    assert "somebody has to resume it" in look_at(cluster(NOTICED, suspend=True), [], []).text


def test_cluster_of_which_kuberay_takes_no_notice_is_told_of():
    assert "its operator does not run, or does not watch the namespace ray" in look_at(cluster(), [], []).text


@pytest.mark.parametrize(
    "told",
    [
        {"known": cluster(NOTICED, condition("ReplicaFailure", message=QUOTA)), "events": []},
        {"known": cluster(NOTICED), "events": [warning("FailedToCreateHeadPod", QUOTA)]},
    ],
)
def test_quota_is_told_and_is_what_the_timeout_says(told):
    look = look_at(told["known"], [], told["events"])
    assert QUOTA in look.text
    assert look.kind is RayClusterQuotaError
    assert not look.is_lasting


def test_other_reasons_why_kuberay_can_make_no_pod_are_told():
    failure = condition("ReplicaFailure", message="violates PodSecurity")
    look = look_at(cluster(NOTICED, failure), [], [])
    assert look.text == "KubeRay cannot make its pods: violates PodSecurity"
    assert look.kind is RayClusterError


def test_manifest_that_kuberay_refuses_fails_at_once():
    refusal = warning("InvalidRayClusterSpec", "The RayCluster spec is invalid: head group: no containers")
    look = look_at(cluster(), [], [refusal])
    assert look.kind is RayClusterManifestError
    assert look.is_lasting
    assert "no containers" in look.text


def test_refusal_of_an_earlier_manifest_is_forgotten():
    refusal = warning("InvalidRayClusterSpec", "invalid")
    assert not look_at(cluster({"observedGeneration": 1}), [ready_pod()], [refusal]).is_lasting


def test_head_that_no_node_has_room_for_is_told():
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    head = pod(conditions=[condition("PodScheduled", "False", "Unschedulable", message)])
    look = look_at(cluster(NOTICED), [head], [])
    assert look.text == f"no node has room for its head ({HEAD}): {message}"


@pytest.mark.parametrize(
    ("reason", "is_lasting"), [("ErrImagePull", False), ("ImagePullBackOff", False), ("InvalidImageName", True)]
)
def test_image_that_cannot_be_pulled_is_told(reason, is_lasting):
    head = with_container({"waiting": {"reason": reason, "message": "not found"}})
    look = look_at(cluster(NOTICED), [head], [])
    assert look.text == f"the image ray:x of its head ({HEAD}) cannot be pulled: {reason}: not found"
    assert look.kind is RayClusterImageError
    assert look.is_lasting == is_lasting


def test_image_of_an_init_container_is_looked_at_too():
    waiting = {"name": "init", "image": "init:x", "state": {"waiting": {"reason": "ErrImagePull"}}}
    look = look_at(cluster(NOTICED), [pod(initContainerStatuses=[waiting])], [])
    assert "the image init:x" in look.text


@pytest.mark.parametrize(
    ("head", "began_anew"),
    [
        (with_container(ended()), False),
        (with_container({"running": {}}, lastState=ended(), restartCount=1), True),
        (with_container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended(), restartCount=1), True),
    ],
)
def test_head_that_dies_is_told_with_where_its_last_lines_are(head, began_anew):
    look = look_at(cluster(NOTICED), [head], [])
    assert look.text == f"the container ray-head of its head ({HEAD}) has died with the exit code 1"
    assert look.kind is RayClusterCrashedError
    assert (look.crash.pod, look.crash.container, look.crash.has_begun_anew) == (HEAD, "ray-head", began_anew)


def test_each_death_is_another_one():
    first = with_container(ended(container_id="1"))
    same = with_container({"running": {}}, lastState=ended(container_id="1"), restartCount=1)
    second = with_container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended(container_id="2"))
    keys = [look_at(cluster(NOTICED), [each], []).crash.key for each in (first, same, second)]
    assert keys[0] == keys[1] != keys[2]


def test_lack_of_memory_is_told():
    assert "the exit code 137 (OOMKilled)" in look_at(cluster(), [with_container(ended(137, "OOMKilled"))], []).text


def test_pod_that_was_evicted_has_died():
    head = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    look = look_at(cluster(NOTICED), [head], [])
    assert "Evicted: The node was low on resource: memory." in look.text
    assert look.crash.container is None


def test_init_container_that_has_succeeded_has_not_died():
    done = {"name": "init", "ready": True, "state": ended(0, "Completed"), "lastState": ended(1)}
    head = pod(phase="Running", initContainerStatuses=[done])
    assert look_at(cluster(NOTICED), [head], []).crash is None


def test_container_that_cannot_be_started_is_told():
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "token" not found'}}
    look = look_at(cluster(NOTICED), [with_container(waiting)], [])
    assert look.text.endswith('cannot be started: CreateContainerConfigError: secret "token" not found')


def test_what_keeps_containers_from_being_made_is_told_by_the_newest_warning_of_the_pod():
    head = with_container({"waiting": {"reason": "ContainerCreating"}})
    events = [
        warning("FailedMount", "newest", HEAD, "2026-05-01T00:00:09Z"),
        warning("FailedMount", "older", HEAD, "2026-05-01T00:00:03Z"),
        warning("Other", "of the cluster", at="2026-05-01T00:00:10Z"),
    ]
    assert look_at(cluster(NOTICED), [head], events).text == f"the containers of its head ({HEAD}) are made: newest"


def test_head_that_runs_and_is_not_ready_is_told():
    head = pod(phase="Running", containerStatuses=[{"name": "ray-head", "state": {"running": {}}}])
    assert look_at(cluster(NOTICED), [head], []).text == f"its head ({HEAD}) runs, and is not ready yet"
