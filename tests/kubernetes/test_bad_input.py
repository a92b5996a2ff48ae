"""What goes wrong with Kubernetes around the operators is told in the user's words, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_ray.client.client import RayClient
from airflow_ray.client.kuberay.pods import SLOW_STARTS
from airflow_ray.client.run_cluster import run_name
from airflow_ray.exceptions import (
    KubeRayMissingError,
    RayClusterCrashedError,
    RayClusterDeletedError,
    RayClusterGoneError,
    RayClusterImageError,
    RayClusterManifestError,
    RayClusterPermissionError,
    RayClusterQuotaError,
    RayClusterTimeoutError,
    RayConfigurationError,
    RayConnectionError,
    RayOwnerDiedError,
)
from airflow_ray.hooks.kuberay import KubeRayHook
from airflow_ray.operators.kuberay import CreateRayClusterOperator, DeleteRayClusterOperator
from airflow_ray.operators.kuberay_arguments import RayClusterOperator
from airflow_ray.operators.python import RayPythonOperator
from tests.dag_runs import TaskInstance, context_of
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.errors import ApiError
from tests.kubernetes.kubelet import Fate, Trouble
from tests.kubernetes.manifests import ray_cluster
from tests.kubernetes.schema import crd_file
from tests.kubernetes.store import PODS, RAY_CLUSTERS, SECRETS, SERVICES, Write

pytestmark = pytest.mark.slow

DAG = "sales"
NAME = "cluster-of-tests"
TOKEN = "0123456789abcdef" * 2
# For what ends by itself; a test that waits for the end of this time takes SHORT.
TIMEOUT, SHORT, POLL = 60.0, 1.5, 0.1
# For what starts a real head.
LONG = 500.0
needs_crds = pytest.mark.skipif(crd_file("rayclusters") is None, reason="KubeRay's CRDs are not on this machine")


class Log(logging.Handler):
    """Keeps what the operators write."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    logger, handler = logging.getLogger("tests.of_operators"), Log()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    # Airflow's own goes by what tests see.
    monkeypatch.setattr(RayClusterOperator, "log", logger)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def connections(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"mode": "gateway", "kubernetes_conn_id": "double", "connect_timeout": 20}
    of_run = {"conn_type": "ray", "host": "{run}", "password": TOKEN, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DOUBLE", api.connection())
    monkeypatch.setenv("AIRFLOW_CONN_RAY_OF_RUN", json.dumps(of_run))


def creator(manifest: Any = None, timeout: float = TIMEOUT, **more: Any) -> CreateRayClusterOperator:
    """Return the operator; where it does not fail before, it fails to reach a head, since there is none."""
    options = {"ray_conn_id": "ray_of_run", "kubernetes_conn_id": "double", "poll_interval": POLL, "deferrable": False}
    made = ray_cluster() if manifest is None else manifest
    return CreateRayClusterOperator(task_id="create", manifest=made, timeout=timeout, **{**options, **more})


def create(manifest: Any = None, timeout: float = TIMEOUT, **more: Any) -> str:
    return creator(manifest, timeout, **more).execute(context_of(DAG))


def make(**more: Any) -> str:
    """Make a cluster to which nobody connects, and return its name."""
    return create(ray_conn_id=None, **more)


def delete(timeout: float = TIMEOUT, **more: Any) -> None:
    options = {"ray_conn_id": None, "kubernetes_conn_id": "double", "poll_interval": POLL, "deferrable": False}
    DeleteRayClusterOperator(task_id="delete", timeout=timeout, **{**options, **more}).execute(context_of(DAG))


def await_that(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def await_nothing_left(api: ApiServer) -> None:
    await_that(lambda: not [each for kind in (RAY_CLUSTERS, PODS, SERVICES, SECRETS) for each in api.store.list(kind)])


def text_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    return str(error.value)


def changed(**fields: Any) -> dict[str, Any]:
    """Return the manifest with other fields of the head's group."""
    manifest = copy.deepcopy(ray_cluster())
    manifest["spec"]["headGroupSpec"] |= fields
    return manifest


def test_what_is_not_allowed_is_told_with_the_verbs_that_are_missing(api, kuberay):
    with api.forbidden("patch", plural="rayclusters"), pytest.raises(RayClusterPermissionError) as error:
        create()
    assert 'cannot patch resource "rayclusters"' in text_of(error)
    assert "Give its role the verbs" in text_of(error)
    await_nothing_left(api)


def test_cluster_goes_again_if_the_secret_with_its_token_may_not_be_made(api, kuberay):
    with api.forbidden(plural="secrets"), pytest.raises(RayClusterPermissionError, match="secrets"):
        create()
    await_nothing_left(api)


def test_cluster_is_made_by_whoever_may_not_look_at_pods_and_events(api, kuberay, caplog):
    with api.forbidden(plural="pods"), api.forbidden(plural="events"):
        name = make()
    assert api.store.get(RAY_CLUSTERS, "default", name)
    assert "may not be read" in caplog.text


def test_credentials_that_kubernetes_does_not_accept_are_told(api, kuberay, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_DOUBLE", api.connection(kube_config_path=str(api.kubeconfig(token="another"))))
    with pytest.raises(RayClusterPermissionError, match="does not accept the credentials of the connection 'double'"):
        create()


def test_kubeconfig_that_is_not_there_is_told(api, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_DOUBLE", api.connection(kube_config_path="/nowhere"))
    with pytest.raises(RayConfigurationError, match="'double' leads to no Kubernetes"):
        create()


def test_kubernetes_without_kuberay_is_told(api, kuberay):
    api.uninstall(RAY_CLUSTERS)
    for act in (create, delete, KubeRayHook("double").list):
        with pytest.raises(KubeRayMissingError, match="Install KubeRay"):
            act()


def test_lookup_of_an_address_in_kubernetes_without_kuberay_is_told(api):
    api.uninstall(RAY_CLUSTERS)
    with pytest.raises(RayConfigurationError, match="Install KubeRay"), RayClient("ray_of_run", DAG, "one").connect():
        pass


def test_namespace_that_is_not_there_is_told(api, kuberay):
    with pytest.raises(RayClusterManifestError, match='namespaces "nowhere" not found'):
        create(namespace="nowhere")


def test_quota_of_clusters_is_told(api, kuberay):
    api.store.quota[RAY_CLUSTERS, "default"] = 0
    with pytest.raises(RayClusterQuotaError, match=r"exceeded quota: .*limited: count/rayclusters\.ray\.io=0"):
        create()
    await_nothing_left(api)


def test_quota_of_pods_is_told_when_the_time_is_over(api, kuberay):
    api.store.quota[PODS, "default"] = 0
    with pytest.raises(RayClusterQuotaError, match="exceeded quota"):
        create(timeout=SHORT)
    await_nothing_left(api)


def test_quota_that_becomes_free_is_waited_for(api, kuberay, log):
    api.store.quota[PODS, "default"] = 0

    def make_room() -> None:
        await_that(lambda: "exceeded quota" in log.text)
        api.store.quota.clear()

    thread = threading.Thread(target=make_room)
    thread.start()
    assert make()
    thread.join()


NO_MANIFESTS = {
    "text": ("a cluster, please", "must be a mapping"),
    "broken YAML": ("spec: [", "is not YAML"),
    "several documents": ("a: 1\n---\nb: 2\n", "one document"),
    "another kind": ({"apiVersion": "apps/v1", "kind": "Deployment"}, "must be of the kind RayCluster"),
    "an older version": ({**ray_cluster(), "apiVersion": "ray.io/v1alpha1"}, "must have the apiVersion ray.io/v1"),
    "no spec": ({"apiVersion": "ray.io/v1", "kind": "RayCluster"}, "no container"),
    "no container": (changed(template={"spec": {"containers": []}}), "no container"),
}


@pytest.mark.parametrize("given", NO_MANIFESTS)
def test_manifest_that_is_none_is_told_before_anything_is_made(api, kuberay, given):
    manifest, text = NO_MANIFESTS[given]
    with pytest.raises(RayClusterManifestError, match=text):
        create(manifest)
    assert api.asked_for("patch", "rayclusters") == []


REFUSED = {
    "a field that is misspelt": (
        changed(rayStartParam={}),
        "headGroupSpec.rayStartParam: field not declared in schema",
    ),
    "a value of another type": ({**ray_cluster(), "spec": {**ray_cluster()["spec"], "suspend": "no"}}, "suspend"),
    "a field that is missing": (ray_cluster(workerGroupSpecs=[{"groupName": "a"}]), "template: Required value"),
}


@needs_crds
@pytest.mark.parametrize("given", REFUSED)
def test_manifest_that_kubernetes_refuses_is_told_at_once(api, kuberay, given):
    manifest, text = REFUSED[given]
    with pytest.raises(RayClusterManifestError, match=text):
        # Not by way of completing it: that refuses what it cannot read itself.
        make(manifest=manifest)
    await_nothing_left(api)


def test_manifest_that_kuberay_refuses_is_told(api, kuberay):
    # It says the same twice.
    with pytest.raises(RayClusterManifestError, match="resource fields should not be set in both"):
        create(changed(rayStartParams={"num-cpus": "2"}, resources={"CPU": "2"}))
    await_nothing_left(api)


def test_image_that_cannot_be_pulled_is_told(api, kuberay):
    kuberay.kubelet.fate = Fate(Trouble.NO_IMAGE)
    with pytest.raises(RayClusterImageError, match=r"the image rayproject/ray:2\.60\.0-py311 of its head .*Pull"):
        create(timeout=SHORT)
    await_nothing_left(api)


def test_head_that_no_node_has_room_for_is_told(api, kuberay):
    kuberay.kubelet.fate = Fate(Trouble.UNSCHEDULABLE)
    with pytest.raises(RayClusterTimeoutError, match=r"no node has room for its head .*Insufficient cpu"):
        create(timeout=SHORT)
    await_nothing_left(api)


def test_head_that_dies_again_and_again_is_told_with_its_last_lines(api, kuberay):
    kuberay.kubelet.fate = Fate(
        Trouble.CRASH, log="".join(f"line {number}\n" for number in range(100)) + "no such thing\n"
    )
    with pytest.raises(RayClusterCrashedError) as error:
        create()
    assert "exit code 1" in text_of(error)
    assert text_of(error).endswith("line 99\nno such thing")
    assert "line 50\n" not in text_of(error)
    await_nothing_left(api)


@pytest.mark.parametrize("text", SLOW_STARTS)
def test_head_that_ray_ends_since_it_takes_too_long_to_start_is_told_with_what_to_do(api, kuberay, text):
    kuberay.kubelet.fate = Fate(Trouble.CRASH, log=f"RuntimeError: {text} of 50fee4df.\n" + 100 * "Another line.\n")
    with pytest.raises(RayClusterCrashedError, match=r"ask for more CPU for the head\. .*at last:\nAnother line"):
        create()
    await_nothing_left(api)


def test_head_that_dies_once_is_waited_for(api, kuberay, log):
    kuberay.kubelet.fate = Fate(Trouble.CRASH, period=600.0)

    def heal() -> None:
        await_that(lambda: "has died" in log.text)
        kuberay.kubelet.fate = Fate()

    thread = threading.Thread(target=heal)
    thread.start()
    assert make()
    thread.join()


def test_cluster_in_a_queue_is_waited_for_and_the_log_says_why(api, kuberay, log):
    def admit() -> None:
        await_that(lambda: "insufficient unused quota" in log.text)
        kuberay.admit("default", api.store.list(RAY_CLUSTERS)[0]["metadata"]["name"])

    thread = threading.Thread(target=admit)
    thread.start()
    assert make(labels={"kueue.x-k8s.io/queue-name": "small"})
    thread.join()


def test_operator_of_kuberay_that_does_not_run_is_told(api):
    with pytest.raises(RayClusterTimeoutError, match="KubeRay has not taken notice of it yet"):
        create(timeout=SHORT)
    await_nothing_left(api)


@pytest.mark.parametrize("goal", ["create", "delete"])
def test_kubernetes_that_is_away_for_a_while_is_waited_for(api, kuberay, log, goal):
    kuberay.kubelet.fate = Fate(Trouble.UNSCHEDULABLE if goal == "create" else None)
    if goal == "delete":
        hold(api, make(), "tests/hold")

    def go_away() -> None:
        await_that(lambda: ("no node has room" if goal == "create" else "tests/hold") in log.text)
        with api.away():
            await_that(lambda: "cannot be reached" in log.text)
        kuberay.kubelet.fate = Fate()
        hold(api, run_name(DAG, TaskInstance.run_id))

    thread = threading.Thread(target=go_away)
    thread.start()
    (make if goal == "create" else delete)()
    thread.join()


def hold(api: ApiServer, name: str, *finalizers: str) -> None:
    """Let a cluster that is deleted stay until it has none of these."""
    api.store.merge(RAY_CLUSTERS, "default", name, {"metadata": {"finalizers": [*finalizers]}}, Write("tests"))


def test_answers_that_kubernetes_owes_to_its_load_are_asked_for_again(api, kuberay):
    api.refusals += [
        ApiError(503, "etcdserver: leader changed"),
        ApiError(429, "too many requests"),
        ApiError(500, "boom"),
    ]
    assert make()


def test_airflow_that_is_killed_between_create_and_delete_leaves_a_cluster_that_prune_deletes(api, kuberay, database):
    name = make()
    # Its DAG run is in no database.
    assert [each.name for each in KubeRayHook("double").prune()] == [name]
    await_nothing_left(api)


def test_prune_leaves_what_others_have_made(api, kuberay, database):
    others = ray_cluster(NAME)
    others["metadata"]["labels"] = {"airflow-ray/installation": "another"}
    api.store.create(RAY_CLUSTERS, "default", others, Write("tests"))
    api.store.create(RAY_CLUSTERS, "default", ray_cluster("by-hand"), Write("tests"))
    assert KubeRayHook("double").prune() == []
    assert len(api.store.list(RAY_CLUSTERS)) == 2


def test_cluster_that_somebody_deletes_while_it_starts_is_told(api, kuberay, log):
    kuberay.kubelet.fate = Fate(Trouble.UNSCHEDULABLE)

    def delete_by_hand() -> None:
        await_that(lambda: "no node has room" in log.text)
        api.store.delete(RAY_CLUSTERS, "default", api.store.list(RAY_CLUSTERS)[0]["metadata"]["name"])

    thread = threading.Thread(target=delete_by_hand)
    thread.start()
    with pytest.raises(RayClusterDeletedError, match="somebody has deleted it"):
        create()
    thread.join()
    await_nothing_left(api)


def test_cluster_that_somebody_has_deleted_is_gone_for_its_tasks_and_for_its_deletion(api, kuberay):
    name = make()
    api.store.delete(RAY_CLUSTERS, "default", name)
    run_id = TaskInstance.run_id
    with (
        pytest.raises(RayClusterGoneError, match="was deleted, or not made yet"),
        RayClient("ray_of_run", DAG, run_id).connect(),
    ):
        pass
    delete()


def test_deletion_that_something_holds_up_is_told(api, kuberay):
    name = make()
    hold(api, name, "tests/hold")
    with pytest.raises(RayClusterTimeoutError, match="tests/hold"):
        delete(timeout=SHORT)
    hold(api, name)
    await_nothing_left(api)


def test_real_head_that_dies_as_soon_as_it_is_ready_is_reached_when_it_runs_again(
    api, kuberay_with_ray, log, monkeypatch
):
    connect, killed = RayClient.connect, []

    def connect_to_one_that_dies(client: RayClient) -> Any:
        if killed:
            return connect(client)
        killed.extend(kuberay_with_ray.kubelet.heads())
        killed[0].process.terminate()
        await_that(lambda: '"ready": false' in json.dumps(api.store.list(PODS)))
        raise RayConnectionError("Its head has died")

    monkeypatch.setattr(RayClient, "connect", connect_to_one_that_dies)
    name = create(timeout=LONG)
    assert "has died" in log.text
    assert log.text.endswith(f"The Ray cluster {name} can run work\n")


@pytest.mark.slow
def test_cluster_that_somebody_deletes_while_a_task_runs_on_it_is_told_to_its_next_try(api, kuberay_with_ray, tmp_path):
    begun = tmp_path / "begun"
    name = create(timeout=LONG)

    def work() -> None:
        import time

        begun.touch()
        time.sleep(3600)

    def delete_by_hand() -> None:
        await_that(begun.exists)
        api.store.delete(RAY_CLUSTERS, "default", name)

    thread = threading.Thread(target=delete_by_hand)
    thread.start()
    task = RayPythonOperator(task_id="work", python_callable=work, ray_conn_id="ray_of_run", deferrable=False)
    # A head that is told to end may still say that it does.
    with pytest.raises((RayClusterGoneError, RayOwnerDiedError)):
        task.execute(context_of(DAG))
    thread.join()
    with pytest.raises(RayClusterGoneError, match=f"There is no RayCluster '{name}'.* it was deleted"):
        task.execute(context_of(DAG, try_number=2))
    delete()
    await_nothing_left(api)
    assert kuberay_with_ray.kubelet.heads() == []
