"""The operators that make and delete Ray clusters, against an API server and a KubeRay whose pods run nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from airflow_ray import kuberay_triggers
from airflow_ray.client import base_trigger, deferral
from airflow_ray.client.client import RayClient
from airflow_ray.client.kuberay import clusters, last_objects, origin, pruning
from airflow_ray.client.kuberay.api import KubernetesApi
from airflow_ray.client.kuberay.clusters import Clusters
from airflow_ray.client.kuberay.origin import Made
from airflow_ray.client.kuberay.pruning import reason_to_prune
from airflow_ray.client.run_cluster import dag_name, installation, run_name
from airflow_ray.exceptions import (
    AirflowRayError,
    KubernetesUnreachableError,
    RayAuthenticationError,
    RayClusterCrashedError,
    RayClusterDeletedError,
    RayClusterError,
    RayClusterForeignError,
    RayClusterManifestError,
    RayClusterPermissionError,
    RayClusterQuotaError,
    RayClusterTimeoutError,
    RayConfigurationError,
    RayConnectionError,
    RayTaskCancelledError,
)
from airflow_ray.operators.kuberay import CreateRayClusterOperator, DeleteRayClusterOperator
from tests.airflow_kill import kill
from tests.dag_runs import TaskInstance, context_of
from tests.kubernetes.kubelet import Fate, Trouble
from tests.kubernetes.manifests import ray_cluster, workers
from tests.kubernetes.store import PODS, RAY_CLUSTERS, SECRETS, SERVICES, Write

TOKEN = "0123456789abcdef"
DAG_ID = "my_dag"
NAME = run_name(DAG_ID, TaskInstance.run_id)


@pytest.fixture(autouse=True)
def connections(api, kuberay, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", api.connection())
    to_ray = {"conn_type": "ray", "host": "{run}-head-svc.default.svc", "password": TOKEN, "extra": {"mode": "gateway"}}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_RUN", json.dumps(to_ray))
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)


def creation(**arguments: Any) -> CreateRayClusterOperator:
    standard = {"task_id": "make", "manifest": ray_cluster(), "ray_conn_id": None, "timeout": 60, "poll_interval": 0.1}
    return CreateRayClusterOperator(**{**standard, **arguments})


def deletion(**arguments: Any) -> DeleteRayClusterOperator:
    standard = {"task_id": "delete", "ray_conn_id": None, "timeout": 60, "poll_interval": 0.1}
    return DeleteRayClusterOperator(**{**standard, **arguments})


def context() -> Any:
    return context_of(DAG_ID)


def names_in(api, resource=RAY_CLUSTERS):
    """Return the names of all that is not being deleted."""
    found = [each["metadata"] for each in api.store.list(resource)]
    return [metadata["name"] for metadata in found if "deletionTimestamp" not in metadata]


def deferred_by(operator: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context())
    return deferred.value


def event_of(trigger: Any) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return event.payload
        raise AssertionError("the trigger has no event")

    return asyncio.run(first())


def resumed(operator: Any, deferred: TaskDeferred) -> Any:
    return getattr(operator, deferred.method_name)(context(), event_of(deferred.trigger))


def test_cluster_is_made_with_workers_and_labels_and_can_run_work(api):
    manifest = ray_cluster("its-own-name", workerGroupSpecs=[workers(2)])
    made = creation(manifest=manifest, labels={"team": "a"}).execute(context())
    assert made == NAME
    (cluster,) = api.store.list(RAY_CLUSTERS)
    labels = cluster["metadata"]["labels"]
    assert cluster["status"]["readyWorkerReplicas"] == 2
    assert labels["team"] == "a"
    assert labels["airflow-ray/installation"] == installation()
    assert labels["airflow-ray/run"] == NAME


def test_name_with_a_placeholder_for_the_dag_is_one_for_its_runs(api):
    creation(name="shared-{dag}").execute(context())
    (cluster,) = api.store.list(RAY_CLUSTERS)
    assert cluster["metadata"]["name"] == f"shared-{dag_name(DAG_ID)}"
    assert "airflow-ray/run-id" not in cluster["metadata"]["annotations"]


def test_making_it_again_changes_nothing(api):
    creation().execute(context())
    (first,) = api.store.list(RAY_CLUSTERS)
    creation().execute(context())
    (second,) = api.store.list(RAY_CLUSTERS)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["generation"] == first["metadata"]["generation"]


def test_changed_manifest_changes_the_cluster(api):
    creation().execute(context())
    creation(manifest=ray_cluster(workerGroupSpecs=[workers()])).execute(context())
    (cluster,) = api.store.list(RAY_CLUSTERS)
    assert [each["groupName"] for each in cluster["spec"]["workerGroupSpecs"]] == ["small"]


def test_what_others_have_changed_stays(api, caplog):
    manifest = ray_cluster(workerGroupSpecs=[workers()])
    creation(manifest=manifest).execute(context())
    scaled = {"spec": {"workerGroupSpecs": [workers(3)]}}
    api.store.merge(RAY_CLUSTERS, "default", NAME, scaled, Write("autoscaler"))
    creation(manifest=manifest).execute(context())
    assert api.store.get(RAY_CLUSTERS, "default", NAME)["spec"]["workerGroupSpecs"][0]["replicas"] == 3
    assert "stays as others have changed it" in caplog.text


def test_of_two_who_make_it_at_once_both_have_it(api):
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(lambda _: creation().execute(context()), range(2)))
    assert made == [NAME, NAME]
    assert names_in(api) == [NAME]


def test_head_is_given_what_it_lacks_and_the_token_in_a_secret(api, monkeypatch):
    monkeypatch.setattr(RayClient, "connect", lambda client: ConnectedTo(client))
    creation(ray_conn_id="ray_run").execute(context())
    (secret,) = api.store.list(SECRETS)
    (cluster,) = api.store.list(RAY_CLUSTERS)
    (head,) = api.store.list(PODS)
    (service,) = api.store.list(SERVICES)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == cluster["metadata"]["uid"]
    assert 8815 in [port["port"] for port in service["spec"]["ports"]]
    assert TOKEN not in json.dumps([cluster, head])
    # The pod of a head whose Secret is not there does not start.
    assert head["status"]["phase"] == "Running"
    assert ConnectedTo.cluster == f"{NAME}-head-svc.default.svc"
    deletion().execute(context())
    assert api.store.list(SECRETS) == []


class ConnectedTo:
    """A connection that is always there."""

    cluster = None

    def __init__(self, client):
        ConnectedTo.cluster = client.settings.host

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def test_cluster_that_the_connection_does_not_reach_is_an_error_and_deleted(api, mocker):
    refusal = RayConnectionError("No gateway answers")
    mocker.patch.object(RayClient, "connect", side_effect=refusal)
    with pytest.raises(RayConnectionError, match="No gateway answers"):
        creation(ray_conn_id="ray_run", timeout=10).execute(context())
    assert names_in(api) == []


class DiesOnceReady:
    """A connection to a head that is ready and dies before it can be reached, until it is healed."""

    #: Until it dies again.
    period = 600.0
    error: AirflowRayError = RayConnectionError("No gateway answers")
    tries = 0

    def __init__(self, api, kuberay) -> None:
        self._api, self._kuberay, self._is_healed = api, kuberay, False

    def heal(self) -> None:
        self._is_healed = True
        self._kuberay.kubelet.fate = Fate()

    def connect(self, client):
        self.tries += 1
        if self._is_healed:
            return ConnectedTo(client)
        self._kuberay.kubelet.fate = Fate(Trouble.CRASH, period=self.period)
        await_that(lambda: '"ready": false' in json.dumps(self._api.store.list(PODS)))
        raise self.error


@pytest.fixture
def dying(api, kuberay, monkeypatch):
    dying = DiesOnceReady(api, kuberay)
    monkeypatch.setattr(RayClient, "connect", lambda client: dying.connect(client))
    return dying


@pytest.mark.parametrize("deferrable", [False, True])
def test_head_that_was_ready_and_dies_before_it_is_reached_is_waited_for(dying, kuberay, deferrable, capfd):
    operator = creation(ray_conn_id="ray_run", deferrable=deferrable)
    with ThreadPoolExecutor() as threads:
        if deferrable:
            making = threads.submit(resumed, operator, deferred_by(operator))
        else:
            making = threads.submit(operator.execute, context())
        await_that(lambda: "has died with the exit code 1" in capfd.readouterr().out)
        dying.heal()
        assert making.result(300) == NAME
    assert (dying.tries, capfd.readouterr().out.count("is ready; ")) == (2, 1)


def test_head_that_dies_again_and_again_before_it_is_reached_is_told_with_its_last_lines(dying, api):
    dying.period = 0.8
    with pytest.raises(RayClusterCrashedError, match=r"(?s)has died with the exit code 1.*No module named 'ray"):
        creation(ray_conn_id="ray_run").execute(context())
    assert names_in(api) == []


def test_error_that_will_stay_is_told_at_once_though_the_head_has_died(dying):
    dying.error = RayAuthenticationError("The token is another one")
    with pytest.raises(RayAuthenticationError):
        creation(ray_conn_id="ray_run").execute(context())
    assert dying.tries == 1


def test_head_is_reached_though_kubernetes_is_away(api, monkeypatch):
    with ExitStack() as away:

        def connect(client):
            if not tried:
                tried.append(client)
                away.enter_context(api.away())
                raise RayConnectionError("No gateway answers")
            return ConnectedTo(client)

        tried: list[RayClient] = []
        monkeypatch.setattr(RayClient, "connect", connect)
        assert creation(ray_conn_id="ray_run").execute(context()) == NAME


def test_connection_that_leads_to_one_cluster_for_all_runs_is_told_of(monkeypatch, capfd):
    to_one = {"conn_type": "ray", "host": "one", "password": TOKEN, "extra": {"mode": "gateway"}}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_RUN", json.dumps(to_one))
    monkeypatch.setattr(RayClient, "connect", lambda client: ConnectedTo(client))
    creation(ray_conn_id="ray_run").execute(context())
    assert "Write {run} into the host of the connection" in capfd.readouterr().out
    creation(ray_conn_id="ray_run", name="one").execute(context())
    assert "Write {run}" not in capfd.readouterr().out


def test_connection_without_a_token_is_refused_before_anything_is_made(api, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_OPEN", '{"conn_type": "ray", "host": "x", "extra": {"mode": "gateway"}}')
    with pytest.raises(RayConfigurationError, match="token"):
        creation(ray_conn_id="ray_open").execute(context())
    assert api.asked_for("patch", "rayclusters") == []


def test_cluster_of_somebody_else_is_neither_used_nor_deleted(api):
    api.store.create(RAY_CLUSTERS, "default", ray_cluster("theirs"), Write("kubectl"))
    before = api.store.get(RAY_CLUSTERS, "default", "theirs")["metadata"]["generation"]
    for operator in (creation(name="theirs"), deletion(name="theirs")):
        with pytest.raises(RayClusterForeignError, match="somebody else has made it"):
            operator.execute(context())
    assert api.store.get(RAY_CLUSTERS, "default", "theirs")["metadata"]["generation"] == before


def test_cluster_of_another_installation_is_neither_used_nor_deleted(api, monkeypatch):
    creation().execute(context())
    monkeypatch.setattr(origin, "installation", lambda: "another")
    for operator in (creation(name=NAME), deletion(name=NAME)):
        with pytest.raises(RayClusterForeignError, match="another Airflow installation"):
            operator.execute(context())
    assert names_in(api) == [NAME]


def test_of_two_installations_that_make_it_at_once_one_is_refused(api, mocker):
    creation().execute(context())
    theirs = api.store.get(RAY_CLUSTERS, "default", NAME)
    mocker.patch.object(origin, "installation", return_value="another")
    mocker.patch.object(clusters, "installation", return_value="another")
    # Neither has seen the other's.
    mocker.patch.object(Clusters, "find", side_effect=[None, None, theirs])
    with pytest.raises(RayClusterForeignError):
        creation(name=NAME).execute(context())
    assert api.store.get(RAY_CLUSTERS, "default", NAME) == theirs


def test_cluster_that_is_being_deleted_is_waited_for_and_made_anew(api, kuberay):
    creation().execute(context())
    (first,) = api.store.list(RAY_CLUSTERS)
    held = {"metadata": {"finalizers": ["tests/held"]}}
    api.store.merge(RAY_CLUSTERS, "default", NAME, held, Write("tests"))
    with ThreadPoolExecutor() as threads:
        deleting = threads.submit(deletion().execute, context())
        await_that(lambda: names_in(api) == [])
        making = threads.submit(creation().execute, context())
        api.store.merge(RAY_CLUSTERS, "default", NAME, {"metadata": {"finalizers": []}}, Write("tests"))
        deleting.result(300)
        making.result(300)
    (second,) = api.store.list(RAY_CLUSTERS)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def test_cluster_that_cannot_run_work_in_time_is_deleted(api, kuberay):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    with pytest.raises(RayClusterTimeoutError, match="Insufficient cpu"):
        creation(timeout=10).execute(context())
    assert names_in(api) == []


def test_cluster_that_several_runs_share_stays_when_it_cannot_be_found_ready_again(api, kuberay):
    creation(name="{dag}").execute(context())
    (cluster,) = api.store.list(RAY_CLUSTERS)
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    await_that(lambda: "Unschedulable" in json.dumps(api.store.list(PODS)))
    with pytest.raises(RayClusterTimeoutError):
        creation(name="{dag}", timeout=1).execute(context())
    assert names_in(api) == [cluster["metadata"]["name"]]


def test_cluster_that_was_ready_stays_when_a_task_that_is_to_make_it_again_fails(api, monkeypatch):
    creation().execute(context())

    def unreachable(*args):
        raise RayConnectionError("The gateway does not answer")

    monkeypatch.setattr(CreateRayClusterOperator, "_reached", unreachable)
    with pytest.raises(RayConnectionError):
        creation().execute(context())
    assert names_in(api) == [NAME]


def test_cluster_that_an_earlier_try_has_left_and_is_not_ready_is_deleted(api, kuberay, monkeypatch):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    with monkeypatch.context() as earlier:
        # Its process was killed.
        earlier.setattr(CreateRayClusterOperator, "_remove", lambda *_: None)
        with pytest.raises(RayClusterTimeoutError):
            creation(timeout=1).execute(context())
    assert names_in(api) == [NAME]
    with pytest.raises(RayClusterTimeoutError):
        creation(timeout=1).execute(context())
    assert names_in(api) == []


def test_kill_deletes_what_is_not_ready(api, kuberay, capfd):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation()
    with ThreadPoolExecutor() as threads:
        making = threads.submit(operator.execute, context())
        await_that(lambda: "Waiting for the Ray cluster" in capfd.readouterr().out)
        operator.on_kill()
        with pytest.raises(RayClusterDeletedError):
            making.result(300)
    assert names_in(api) == []


def test_kill_while_the_cluster_is_being_made_deletes_it(api, monkeypatch):
    operator, apply = creation(), Clusters.apply

    def killed_meanwhile(*args):
        operator.on_kill()
        return apply(*args)

    monkeypatch.setattr(Clusters, "apply", killed_meanwhile)
    with pytest.raises(RayTaskCancelledError):
        operator.execute(context())
    assert names_in(api) == []


def test_kill_after_the_cluster_is_ready_leaves_it(api):
    operator = creation()
    operator.execute(context())
    operator.on_kill()
    assert names_in(api) == [NAME]


def test_kill_with_an_api_server_that_is_away_says_what_is_left(api, kuberay, capfd):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation()
    with ThreadPoolExecutor() as threads:
        making = threads.submit(operator.execute, context())
        await_that(lambda: "Waiting for the Ray cluster" in capfd.readouterr().out)
        with api.away():
            operator.on_kill()
        assert "airflow ray clusters prune" in capfd.readouterr().out
        operator.on_kill()
        with pytest.raises(RayClusterDeletedError):
            making.result(300)


def test_deferred_creation_goes_on_when_the_cluster_can_run_work(api):
    operator = creation(deferrable=True)
    assert resumed(operator, deferred_by(operator)) == NAME


def test_deferred_creation_that_fails_deletes_the_cluster(api, kuberay):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation(deferrable=True, timeout=10)
    deferred = deferred_by(operator)
    with pytest.raises(RayClusterTimeoutError, match="Insufficient cpu"):
        resumed(operator, deferred)
    assert names_in(api) == []


def test_kill_while_deferred_deletes_the_cluster_and_a_restart_does_not(api, kuberay):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    trigger = deferred_by(creation(deferrable=True)).trigger
    asyncio.run(trigger.cleanup())
    assert names_in(api) == [NAME]
    kill(trigger)
    assert names_in(api) == []


@pytest.mark.parametrize(("state", "names"), [("running", [NAME]), ("success", [NAME]), ("failed", [])])
def test_kill_of_a_trigger_leaves_a_cluster_whose_task_went_on_in_another_triggerer(api, monkeypatch, state, names):
    monkeypatch.setattr(base_trigger, "states_of", lambda *_: [state])
    monkeypatch.setattr(base_trigger, "knows_reassigned_triggers", lambda: False)
    trigger = deferred_by(creation(deferrable=True)).trigger
    trigger.task_instance = TaskInstance(DAG_ID)
    kill(trigger)
    assert names_in(api) == names


def test_trigger_is_kept_as_it_is():
    trigger = kuberay_triggers.RayClusterTrigger("k8s", "ray", "x", "uid", "gone", 1.5, 2.5, True, {"a": 1})
    path, arguments = trigger.serialize()
    assert path == "airflow_ray.kuberay_triggers.RayClusterTrigger"
    assert kuberay_triggers.RayClusterTrigger(**arguments).serialize() == (path, arguments)
    assert [*arguments.values()] == ["k8s", "ray", "x", "uid", "gone", 1.5, 2.5, True, {"a": 1}]


@pytest.mark.parametrize("deferrable", [False, True])
def test_deletion_waits_until_all_pods_are_gone(api, deferrable):
    creation(manifest=ray_cluster(workerGroupSpecs=[workers()])).execute(context())
    operator = deletion(deferrable=deferrable)
    if deferrable:
        resumed(operator, deferred_by(operator))
    else:
        operator.execute(context())
    assert api.store.list(RAY_CLUSTERS) == api.store.list(PODS) == []


def test_deletion_of_what_is_gone_already_succeeds(capfd):
    deletion(deferrable=True).execute(context())
    assert "is gone already" in capfd.readouterr().out


def test_deletion_goes_on_without_a_cluster_that_cannot_be_asked(api, mocker, caplog):
    creation().execute(context())
    mocker.patch.object(RayClient, "connect", side_effect=RayConnectionError("No gateway answers"))
    deletion(ray_conn_id="ray_run").execute(context())
    assert "is not known: No gateway answers" in caplog.text
    assert names_in(api) == []


def test_deletion_that_is_to_write_checkpoints_leaves_a_cluster_that_cannot_be_asked(api, mocker):
    creation().execute(context())
    mocker.patch.object(RayClient, "connect", side_effect=RayConnectionError("No gateway answers"))
    with pytest.raises(RayConnectionError):
        deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    assert names_in(api) == [NAME]


def test_deletion_of_a_cluster_whose_head_is_dead_writes_no_checkpoints(api, kuberay):
    kuberay.kubelet.fates[NAME] = Fate()
    creation().execute(context())
    kuberay.kubelet.fates[NAME] = Fate(trouble=Trouble.CRASH)
    await_that(lambda: "CrashLoopBackOff" in json.dumps(api.store.list(PODS)))
    deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    assert names_in(api) == []


class Holding(ConnectedTo):
    """A connection to a cluster that holds two objects."""

    objects = [
        {
            "uri": f"ray-object://ray_run/{DAG_ID}/run/kept/-1/return_value",
            "state": "SUCCEEDED",
            "checkpoint": "s3://x",
            "bytes": 1,
        },
        {
            "uri": f"ray-object://ray_run/{DAG_ID}/run/lost/-1/return_value",
            "state": "SUCCEEDED",
            "checkpoint": None,
            "bytes": 1,
        },
        {
            "uri": f"ray-object://ray_run/{DAG_ID}/run/failed/-1/return_value",
            "state": "FAILED",
            "checkpoint": None,
            "bytes": None,
        },
        {
            "uri": f"ray-object://ray_run/{DAG_ID}/run/value/-1/return_value",
            "state": "SUCCEEDED",
            "checkpoint": None,
            "bytes": None,
        },
    ]

    def __enter__(self):
        return self

    def list_objects(self):
        return self.objects


@pytest.fixture
def held_objects(monkeypatch):
    monkeypatch.setattr(RayClient, "connect", lambda client: Holding(client))
    return Holding.objects


def test_deletion_warns_of_objects_without_a_checkpoint(api, held_objects, caplog):
    creation().execute(context())
    deletion(ray_conn_id="ray_run").execute(context())
    assert [each["uri"] in caplog.text for each in held_objects] == [False, True, False, False]
    assert names_in(api) == []


def test_deletion_writes_the_checkpoints_that_are_missing(api, held_objects, mocker):
    written = mocker.patch.object(last_objects, "checkpoint", return_value="s3://x")
    creation().execute(context())
    deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    assert [str(call.args[1]) for call in written.call_args_list] == [held_objects[1]["uri"]]
    assert names_in(api) == []


def test_cluster_stays_where_a_checkpoint_cannot_be_written(api, held_objects, mocker):
    mocker.patch.object(last_objects, "checkpoint", side_effect=RayConfigurationError("no path for checkpoints is set"))
    creation().execute(context())
    with pytest.raises(RayConfigurationError, match="no path"):
        deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    (cluster,) = api.store.list(RAY_CLUSTERS)
    # Its run has ended by now, or does soon.
    mocker.patch.object(pruning, "is_run_unfinished", return_value=False)
    assert reason_to_prune(cluster, None) is None
    assert "has ended" in reason_to_prune(cluster, None, datetime.now(timezone.utc) + timedelta(days=1))


def test_objects_of_a_head_that_runs_and_is_not_ready_are_kept_too(api, held_objects, mocker):
    written = mocker.patch.object(last_objects, "checkpoint", return_value="s3://x")
    creation().execute(context())
    (head,) = api.store.list(PODS)
    status = {**head["status"], "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}
    # Of a container beside that of Ray, which has died.
    mocker.patch.object(Clusters, "find_pods", return_value=[{**head, "status": status}])
    deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    assert len(written.call_args_list) == 1


def fails_once(mocker, kind, name):
    """Let a method say once that Kubernetes is away, and return what is left of that."""
    method, failures = getattr(kind, name), [KubernetesUnreachableError("busy")]

    def busy_once(*args):
        if failures:
            raise failures.pop()
        return method(*args)

    mocker.patch.object(kind, name, busy_once)
    return failures


def test_deletion_goes_on_when_an_api_server_that_was_away_for_a_moment_is_back(api, mocker, held_objects):
    creation().execute(context())
    failures = fails_once(mocker, Clusters, "pods")
    deletion(ray_conn_id="ray_run").execute(context())
    assert (failures, names_in(api)) == ([], [])


def test_creation_that_fails_deletes_the_cluster_though_the_api_server_is_away_for_a_moment(api, kuberay, mocker):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    failures = fails_once(mocker, KubernetesApi, "delete")
    with pytest.raises(RayClusterTimeoutError):
        creation(timeout=1).execute(context())
    assert (failures, names_in(api)) == ([], [])


def test_earlier_try_leaves_the_cluster_that_the_next_one_has_found(api):
    creation().execute(context())
    here, (cluster,) = Clusters.of("kubernetes_default"), api.store.list(RAY_CLUSTERS)
    earlier = Made(NAME, cluster["metadata"]["uid"], cluster["metadata"]["annotations"]["airflow-ray/held-by"])
    creation().execute(context())
    assert here.withdraw(earlier, 5.0) is False
    assert names_in(api) == [NAME]


def test_cluster_that_other_runs_may_use_stays_when_who_made_it_fails(api):
    creation(name="shared").execute(context())
    here, (cluster,) = Clusters.of("kubernetes_default"), api.store.list(RAY_CLUSTERS)
    holder = cluster["metadata"]["annotations"]["airflow-ray/held-by"]
    made = Made("shared", cluster["metadata"]["uid"], holder, is_shared=True)
    assert here.withdraw(made, 5.0) is False
    assert names_in(api) == ["shared"]


def test_cluster_of_several_runs_that_cannot_start_is_deleted_though_others_have_found_it(api, kuberay, monkeypatch):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    first, second = (creation(name="shared", timeout=1) for _ in range(2))
    monkeypatch.setattr(first, "_remove", lambda seconds: None)
    for operator in first, second:
        with pytest.raises(RayClusterTimeoutError):
            operator.execute(context())
    assert names_in(api) == ["shared"]
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", api.connection())
    first.on_kill()
    assert names_in(api) == []


def test_cluster_that_cannot_start_is_deleted_though_a_head_of_an_earlier_one_of_its_name_runs(api):
    creation(name="shared").execute(context())
    api.store.delete(RAY_CLUSTERS, "default", "shared", propagation="Orphan")
    api.store.quota[PODS, "default"] = 1
    with pytest.raises(RayClusterQuotaError):
        creation(name="shared", timeout=10).execute(context())
    assert names_in(api) == []


def test_pods_of_an_earlier_cluster_of_its_name_are_none_of_a_new_one(api):
    creation(name="shared").execute(context())
    api.store.delete(RAY_CLUSTERS, "default", "shared", propagation="Orphan")
    creation(name="shared").execute(context())
    (cluster,), both = api.store.list(RAY_CLUSTERS), api.store.list(PODS)
    own = Clusters.of("kubernetes_default").pods("shared", cluster["metadata"]["uid"])
    assert (len(own), len(both)) == (1, 2)


def test_deletion_that_something_else_refuses_all_the_time_ends(api, mocker):
    creation().execute(context())
    here, (cluster,) = Clusters.of("kubernetes_default"), api.store.list(RAY_CLUSTERS)
    mocker.patch.object(KubernetesApi, "delete", return_value=False)
    with pytest.raises(RayClusterError, match="something refuses its deletion"):
        here.withdraw(Made(NAME, cluster["metadata"]["uid"]), 5.0)


def test_reason_why_a_checkpoint_could_not_be_written_is_told_where_that_cannot_be_noted_either(
    api, held_objects, mocker, caplog
):
    mocker.patch.object(last_objects, "checkpoint", side_effect=RayConfigurationError("no path for checkpoints is set"))
    creation().execute(context())
    mocker.patch.object(Clusters, "annotate", side_effect=RayClusterPermissionError("no patch"))
    with pytest.raises(RayConfigurationError, match="no path"):
        deletion(ray_conn_id="ray_run", checkpoint=True).execute(context())
    assert "it could not be noted: no patch" in caplog.text


def test_cluster_that_has_changed_since_the_look_is_looked_at_again_before_it_is_deleted(api, monkeypatch):
    creation().execute(context())
    here, (cluster,) = Clusters.of("kubernetes_default"), api.store.list(RAY_CLUSTERS)
    made = Made(NAME, cluster["metadata"]["uid"], cluster["metadata"]["annotations"]["airflow-ray/held-by"])
    look_up = Clusters.look_up

    def found_meanwhile(*args):
        found = look_up(*args)
        monkeypatch.setattr(Clusters, "look_up", look_up)
        creation().execute(context())
        return found

    monkeypatch.setattr(Clusters, "look_up", found_meanwhile)
    assert here.withdraw(made, 300.0) is False
    assert names_in(api) == [NAME]


def test_cluster_that_changes_all_the_time_is_deleted_when_it_rests(api, monkeypatch, caplog):
    creation().execute(context())
    here, (cluster,) = Clusters.of("kubernetes_default"), api.store.list(RAY_CLUSTERS)
    look_up, looks = Clusters.look_up, []

    def changed_since(*args):
        found = look_up(*args)
        looks.append(found)
        if "Trying again" not in caplog.text:
            api.store.set_status(RAY_CLUSTERS, "default", NAME, {"reason": str(len(looks))}, "kuberay-operator")
        return found

    monkeypatch.setattr(Clusters, "look_up", changed_since)
    assert here.withdraw(Made(NAME, cluster["metadata"]["uid"]), 300.0)
    assert names_in(api) == []


def test_trigger_that_meets_what_nobody_has_thought_of_lets_the_task_delete_its_cluster(api, kuberay, mocker):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation(deferrable=True)
    deferred = deferred_by(operator)
    mocker.patch.object(kuberay_triggers.RayClusterTrigger, "_clusters", side_effect=KeyError("connection"))
    event = event_of(deferred.trigger)
    with pytest.raises(AirflowRayError, match="connection"):
        operator.cluster_ready(context(), event)
    assert names_in(api) == []


def test_deferred_creation_ends_with_the_execution_timeout(kuberay):
    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation(deferrable=True, execution_timeout=timedelta(seconds=1))
    deferred = deferred_by(operator)
    with pytest.raises(RayClusterTimeoutError):
        resumed(operator, deferred)


def test_checkpoints_need_a_connection():
    with pytest.raises(RayConfigurationError, match="ray_conn_id"):
        deletion(checkpoint=True)


@pytest.mark.parametrize("argument", ["timeout", "poll_interval"])
def test_times_must_be_over_0(argument):
    with pytest.raises(RayConfigurationError, match=argument):
        creation(**{argument: 0})


def test_manifest_of_another_namespace_is_refused(api):
    manifest = ray_cluster()
    manifest["metadata"]["namespace"] = "elsewhere"
    with pytest.raises(RayClusterManifestError, match="elsewhere"):
        creation(manifest=manifest).execute(context())
    assert api.asked_for("patch", "rayclusters") == []


def test_connections_may_be_the_machine_s_own_cluster(api, tmp_path, monkeypatch):
    from kubernetes.config import incluster_config

    folder = tmp_path / "account"
    for name, value in api.in_cluster(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    in_cluster = {"conn_type": "kubernetes", "extra": {"in_cluster": True, "namespace": "default"}}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(in_cluster))
    creation().execute(context())
    assert names_in(api) == [NAME]


class Rendered:
    """A DAG with an operator whose templates are rendered."""

    def __init__(self, tmp_path, **arguments: Any) -> None:
        self.dag = DAG("rendered", schedule=None, params={"image": "ray:1"})
        self.dag.fileloc = str(tmp_path / "dag.py")
        arguments["manifest"] = arguments.get("manifest", ray_cluster())
        self.operator = creation(dag=self.dag, **arguments)
        self.operator.render_template_fields({"params": {"image": "ray:1", "team": "a"}, "ds_nodash": "20260501"})


def test_manifest_of_a_file_beside_the_dag_is_a_template(tmp_path):
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "ray.yaml").write_text("image: {{ params.image }}\nname: '{run}'\n")
    assert Rendered(tmp_path, manifest="clusters/ray.yaml").operator.manifest == "image: ray:1\nname: '{run}'"


def test_manifest_of_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RayClusterManifestError, match=r"nowhere\.yaml"):
        Rendered(tmp_path, manifest="nowhere.yaml")


def test_fields_are_templates_and_texts_in_a_mapping_that_look_like_files_stay(tmp_path):
    manifest = {"image": "{{ params.image }}", "args": ["/etc/ray/config.yaml"]}
    labels = {"team": "{{ params.team }}"}
    operator = Rendered(tmp_path, manifest=manifest, name="{{ ds_nodash }}", labels=labels).operator
    assert operator.manifest == {"image": "ray:1", "args": ["/etc/ray/config.yaml"]}
    assert (operator.name, operator.labels) == ("20260501", {"team": "a"})


def test_operators_are_setup_and_teardown():
    with DAG("dag", schedule=None) as dag:
        made, deleted = creation().as_setup(), deletion()
        deleted.as_teardown(setups=made)
    assert dag.get_task("make").is_setup
    assert dag.get_task("delete").is_teardown


def test_execution_timeout_deletes_what_is_not_ready(api, kuberay):
    from airflow.sdk.exceptions import AirflowTaskTimeout
    from airflow.sdk.execution_time.timeout import timeout

    kuberay.kubelet.fate = Fate(trouble=Trouble.UNSCHEDULABLE)
    operator = creation(execution_timeout=timedelta(seconds=1))
    # Python drops what a signal raises while it calls back for a weak reference; the operator's own deadline is next.
    with pytest.raises((AirflowTaskTimeout, RayClusterTimeoutError)), timeout(1):
        operator.execute(context())
    assert names_in(api) == []


def await_that(is_so) -> None:
    stopped = threading.Event()
    for _ in range(600):
        if is_so():
            return
        stopped.wait(0.1)
    raise AssertionError("it did not become so")
