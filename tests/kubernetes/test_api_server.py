"""The double of Kubernetes' API answers the official clients as the real one does."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

import kubernetes_asyncio
import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.kubernetes.manifests import ray_cluster
from tests.kubernetes.schema import crd_file
from tests.kubernetes.store import PODS, RAY_CLUSTERS, SECRETS, Write

# Of what only stands in for Kubernetes.
pytestmark = pytest.mark.slow

PLACE = {"group": "ray.io", "version": "v1", "namespace": "default", "plural": "rayclusters"}
needs_crds = pytest.mark.skipif(crd_file("rayclusters") is None, reason="KubeRay's CRDs are not on this machine")


def status_of(error: pytest.ExceptionInfo[ApiException]) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(error.value.body)
    return status


def apply(custom: client.CustomObjectsApi, manifest: dict[str, Any], manager: str = "airflow", **more: Any) -> Any:
    options = {"field_manager": manager, "_content_type": "application/apply-patch+yaml", **more}
    return custom.patch_namespaced_custom_object(**PLACE, name=manifest["metadata"]["name"], body=manifest, **options)


def secret(name: str, **labels: str) -> client.V1Secret:
    return client.V1Secret(metadata=client.V1ObjectMeta(name=name, labels=labels), string_data={"token": "abc"})


def test_object_is_created_read_listed_by_label_and_deleted(core):
    core.create_namespaced_secret("default", secret("a", run="one"))
    core.create_namespaced_secret("default", secret("b", run="two"))
    assert core.read_namespaced_secret("a", "default").data == {"token": "YWJj"}
    found = core.list_namespaced_secret("default", label_selector="run in (two, three)")
    assert [each.metadata.name for each in found.items] == ["b"]
    core.delete_namespaced_secret("a", "default")
    with pytest.raises(ApiException) as error:
        core.read_namespaced_secret("a", "default")
    assert status_of(error)["message"] == 'secrets "a" not found'


def test_object_is_created_once(core):
    core.create_namespaced_secret("default", secret("a"))
    with pytest.raises(ApiException) as error:
        core.create_namespaced_secret("default", secret("a"))
    assert (status_of(error)["code"], status_of(error)["reason"]) == (409, "AlreadyExists")


def test_write_to_an_older_version_is_a_conflict(core):
    stale = core.create_namespaced_secret("default", secret("a"))
    core.patch_namespaced_secret("a", "default", {"metadata": {"labels": {"run": "one"}}})
    with pytest.raises(ApiException) as error:
        core.replace_namespaced_secret("a", "default", stale)
    assert "the object has been modified" in status_of(error)["message"]


def test_deletion_of_another_object_of_the_name_is_a_conflict(core):
    core.create_namespaced_secret("default", secret("a"))
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="of another"))
    with pytest.raises(ApiException) as error:
        core.delete_namespaced_secret("a", "default", body=options)
    assert status_of(error)["code"] == 409


def test_object_with_a_finalizer_stays_until_that_is_gone(api, custom):
    manifest = ray_cluster("slow")
    manifest["metadata"]["finalizers"] = ["tests/hold"]
    custom.create_namespaced_custom_object(**PLACE, body=manifest)
    custom.delete_namespaced_custom_object(**PLACE, name="slow")
    assert "deletionTimestamp" in custom.get_namespaced_custom_object(**PLACE, name="slow")["metadata"]
    api.store.merge(RAY_CLUSTERS, "default", "slow", {"metadata": {"finalizers": []}}, Write("tests"))
    with pytest.raises(ApiException) as error:
        custom.get_namespaced_custom_object(**PLACE, name="slow")
    assert status_of(error)["code"] == 404


def test_what_belongs_to_an_object_goes_with_it(core, custom):
    owner = custom.create_namespaced_custom_object(**PLACE, body=ray_cluster("owner"))["metadata"]["uid"]
    of_owner = secret("a")
    of_owner.metadata.owner_references = [
        client.V1OwnerReference("ray.io/v1", kind="RayCluster", name="owner", uid=owner)
    ]
    core.create_namespaced_secret("default", of_owner)
    custom.delete_namespaced_custom_object(**PLACE, name="owner")
    assert core.list_namespaced_secret("default").items == []


def test_apply_creates_and_a_second_time_changes_nothing(custom):
    first = apply(custom, ray_cluster("a"))
    assert apply(custom, ray_cluster("a"))["metadata"] == first["metadata"]
    assert [each["manager"] for each in first["metadata"]["managedFields"]] == ["airflow"]


def test_apply_takes_back_what_it_has_applied_and_leaves_what_others_have(custom):
    with_label = ray_cluster("a")
    with_label["metadata"]["labels"] = {"mine": "1"}
    apply(custom, with_label)
    theirs = {"metadata": {"labels": {"theirs": "1"}}, "spec": {"suspend": True}}
    custom.patch_namespaced_custom_object(**PLACE, name="a", body=theirs, _content_type="application/merge-patch+json")
    applied = apply(custom, ray_cluster("a"))
    assert (applied["metadata"]["labels"], applied["spec"]["suspend"]) == ({"theirs": "1"}, True)


def test_apply_of_a_field_that_another_has_set_is_a_conflict_unless_forced(custom):
    apply(custom, ray_cluster("a"))
    theirs = {"spec": {"rayVersion": "2.59.0"}}
    options = {"field_manager": "kubectl-edit", "_content_type": "application/merge-patch+json"}
    custom.patch_namespaced_custom_object(**PLACE, name="a", body=theirs, **options)
    with pytest.raises(ApiException) as error:
        apply(custom, ray_cluster("a"))
    assert status_of(error)["message"] == 'Apply failed with 1 conflict: conflict with "kubectl-edit": .spec.rayVersion'
    assert apply(custom, ray_cluster("a"), force=True)["spec"]["rayVersion"] == "2.60.0"


@needs_crds
def test_apply_adds_to_a_list_that_has_keys(custom):
    apply(custom, ray_cluster("a"))
    container = {"name": "ray-head", "env": [{"name": "A", "value": "1"}]}
    head = {"template": {"spec": {"containers": [container]}}}
    body = {**ray_cluster("a"), "spec": {"headGroupSpec": head}}
    applied = apply(custom, body, manager="another")
    (found,) = applied["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert (found["image"], found["env"]) == ("rayproject/ray:2.60.0-py311", [{"name": "A", "value": "1"}])


@needs_crds
def test_object_against_its_schema_is_refused(custom):
    with pytest.raises(ApiException) as error:
        custom.create_namespaced_custom_object(**PLACE, body={**ray_cluster("a"), "spec": {"headGroupSpec": {}}})
    expected = 'RayCluster.ray.io "a" is invalid: spec.headGroupSpec.template: Required value'
    assert (status_of(error)["code"], status_of(error)["message"]) == (422, expected)


@needs_crds
def test_apply_of_an_unknown_field_fails_as_the_real_server_fails(custom):
    with pytest.raises(ApiException) as error:
        apply(custom, ray_cluster("a", headGroupSpecs={}))
    status = status_of(error)
    assert (status["code"], "reason" in status) == (500, False)
    what = "default/a; ray.io/v1, Kind=RayCluster"
    assert (
        status["message"]
        == f"failed to create typed patch object ({what}): .spec.headGroupSpecs: field not declared in schema"
    )


@needs_crds
def test_unknown_field_is_dropped_or_refused_where_that_is_asked_for(custom):
    body = ray_cluster("a", headGroupSpecs={})
    with pytest.raises(ApiException) as error:
        custom.create_namespaced_custom_object(**PLACE, body=body, field_validation="Strict")
    assert status_of(error)["message"] == 'strict decoding error: unknown field "spec.headGroupSpecs"'
    assert "headGroupSpecs" not in custom.create_namespaced_custom_object(**PLACE, body=body)["spec"]


def test_status_is_written_apart_from_the_rest(custom):
    custom.create_namespaced_custom_object(**PLACE, body={**ray_cluster("a"), "status": {"state": "ready"}})
    patch = {"status": {"state": "failed"}, "spec": {"suspend": True}}
    options = {"_content_type": "application/merge-patch+json"}
    written = custom.patch_namespaced_custom_object_status(**PLACE, name="a", body=patch, **options)
    assert (written["status"], "suspend" in written["spec"]) == ({"state": "failed"}, False)


def test_watch_tells_what_happens_after_a_version(api, core):
    version = core.list_namespaced_secret("default").metadata.resource_version
    core.create_namespaced_secret("default", secret("a", run="one"))
    core.create_namespaced_secret("default", secret("b"))
    stream = watch.Watch().stream(
        core.list_namespaced_secret, "default", label_selector="run=one", resource_version=version, timeout_seconds=60
    )
    assert next(stream)["object"].metadata.name == "a"
    api.store.delete(SECRETS, "default", "a")
    assert next(stream)["type"] == "DELETED"


def test_watch_from_a_version_that_is_forgotten_has_expired(api, core):
    version = core.list_namespaced_secret("default").metadata.resource_version
    core.create_namespaced_secret("default", secret("a"))
    api.store.forget_history()
    with pytest.raises(ApiException) as error:
        next(watch.Watch().stream(core.list_namespaced_secret, "default", resource_version=version))
    assert error.value.status == 410


def test_resource_that_is_not_installed_is_not_found(api, custom):
    api.uninstall(RAY_CLUSTERS)
    with pytest.raises(ApiException) as error:
        custom.list_namespaced_custom_object(**PLACE)
    assert (error.value.status, error.value.body) == (404, "404 page not found\n")


def test_what_is_forbidden_is_told_with_the_verb_and_the_resource(api, custom):
    with api.forbidden("create", plural="rayclusters"), pytest.raises(ApiException) as error:
        custom.create_namespaced_custom_object(**PLACE, body=ray_cluster("a"))
    assert status_of(error)["message"] == (
        'rayclusters.ray.io is forbidden: User "system:serviceaccount:airflow:airflow" cannot create resource '
        '"rayclusters" in API group "ray.io" in the namespace "default"'
    )
    assert custom.list_namespaced_custom_object(**PLACE)["items"] == []


def test_quota_that_is_used_up_is_told(api, custom):
    api.store.quota[RAY_CLUSTERS, "default"] = 0
    with pytest.raises(ApiException) as error:
        custom.create_namespaced_custom_object(**PLACE, body=ray_cluster("a"))
    assert "exceeded quota" in status_of(error)["message"]


def test_server_that_is_away_refuses_connections_and_keeps_its_objects(api, core):
    core.create_namespaced_secret("default", secret("a"))
    with api.away(), pytest.raises(HTTPError):
        core.read_namespaced_secret("a", "default", _request_timeout=1)
    assert core.read_namespaced_secret("a", "default").metadata.name == "a"


def test_watch_breaks_off_when_the_server_goes_away(api, core):
    core.create_namespaced_secret("default", secret("a"))
    seen = []
    begun = threading.Event()

    def look() -> None:
        with suppress(HTTPError):
            for event in watch.Watch().stream(core.list_namespaced_secret, "default"):
                seen.append(event["type"])
                begun.set()

    thread = threading.Thread(target=look)
    thread.start()
    begun.wait(300)
    with api.away():
        thread.join(300)
    assert (seen, thread.is_alive()) == (["ADDED"], False)


def test_log_of_a_pod_is_read_by_its_last_lines(api, core):
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "ray-head"}]}}
    api.store.create(PODS, "default", pod, Write("tests"))
    api.logs["default", "a", "ray-head"] = "one\ntwo\nthree\n"
    assert core.read_namespaced_pod_log("a", "default", tail_lines=2, _preload_content=False).data == b"two\nthree\n"
    with pytest.raises(ApiException, match="previous terminated container"):
        core.read_namespaced_pod_log("a", "default", previous=True)


def test_wrong_token_is_not_let_in(api):
    from kubernetes import config

    with (
        config.new_client_from_config(str(api.kubeconfig(token="another"))) as stranger,
        pytest.raises(ApiException) as error,
    ):
        client.CoreV1Api(stranger).list_namespaced_secret("default")
    assert status_of(error)["code"] == 401


def test_asynchronous_client_is_served_too(api):
    async def names() -> list[str]:
        await kubernetes_asyncio.config.load_kube_config(str(api.kubeconfig()))
        async with kubernetes_asyncio.client.ApiClient() as api_client:
            found = await kubernetes_asyncio.client.CustomObjectsApi(api_client).list_namespaced_custom_object(**PLACE)
            return [each["metadata"]["name"] for each in found["items"]]

    api.store.create(RAY_CLUSTERS, "default", ray_cluster("a"), Write("tests"))
    assert asyncio.run(names()) == ["a"]
