"""What is added to a manifest, checked against KubeRay's own definition of a RayCluster."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest

from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.kuberay.completion import Access, access_of, completed, named, secret_name, sets_token
from airflow_ray.client.kuberay.manifest import read_manifest
from airflow_ray.client.kuberay.origin import Origin
from airflow_ray.exceptions import RayClusterManifestError, RayConfigurationError
from tests.kubernetes.manifests import ray_cluster, workers
from tests.kubernetes.schema import crd_schema, faults, untypable

TOKEN = "0123456789abcdef"
GATEWAY = Access("gateway", 8815, TOKEN)


def problems_of(manifest):
    if crd_schema("rayclusters") is None:
        pytest.skip("KubeRay's definition of a RayCluster is not on this machine")
    return faults("rayclusters", manifest) + untypable("rayclusters", manifest)


def whole(manifest, access=GATEWAY):
    manifest = read_manifest(manifest)
    named(manifest, "my-cluster", "default", {"team": "a"}, {"note": "b"})
    additions = completed(manifest, access)
    return manifest, additions


def head_of(manifest):
    return manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]


def variables_of(container):
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def settings(**fields):
    extra = fields.pop("extra", {})
    standard = {"conn_id": "ray", "conn_type": "ray", "host": "head", "port": None, "password": TOKEN, **fields}
    return settings_of(SimpleNamespace(**standard, extra_dejson=extra))


MANIFESTS = {
    "head alone": ray_cluster(),
    "workers": ray_cluster(workerGroupSpecs=[workers(), {**workers(), "groupName": "large"}]),
    "autoscaler": ray_cluster(workerGroupSpecs=[workers()], enableInTreeAutoscaling=True),
    "options of the autoscaler": ray_cluster(
        enableInTreeAutoscaling=True, autoscalerOptions={"idleTimeoutSeconds": 60, "env": [{"name": "A", "value": "1"}]}
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_completed_manifest_is_a_ray_cluster_to_kuberay(name):
    assert problems_of(MANIFESTS[name]) == []
    manifest, _ = whole(MANIFESTS[name])
    assert problems_of(manifest) == []


def test_the_definition_would_tell_a_field_that_is_misspelt():
    assert "headGroupSpecs" in problems_of(ray_cluster(headGroupSpecs={}))[0]


def test_ports_that_kuberay_would_serve_stay_when_another_is_added():
    manifest, additions = whole(ray_cluster())
    ports = {each["name"]: each["containerPort"] for each in head_of(manifest)["ports"]}
    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "gateway": 8815}
    assert additions[0] == "the head's ports gcs-server 6379, dashboard 8265, client 10001, serve 8000, gateway 8815"


def test_of_ports_that_the_manifest_has_none_is_changed_nor_doubled():
    given = ray_cluster()
    own = [{"name": "flight", "containerPort": 8815}, {"name": "gcs-server", "containerPort": 7000}]
    head_of(given)["ports"] = copy.deepcopy(own)
    manifest, _ = whole(given)
    assert head_of(manifest)["ports"] == [*own, {"name": "dashboard", "containerPort": 8265}]


def test_ports_follow_the_parameters_of_ray():
    given = ray_cluster()
    given["spec"]["headGroupSpec"]["rayStartParams"] = {"port": "7000", "dashboard-port": "9000"}
    ports = {each["name"]: each["containerPort"] for each in head_of(whole(given)[0])["ports"]}
    assert (ports["gcs-server"], ports["dashboard"]) == (7000, 9000)


def test_dashboard_can_be_reached_from_other_pods():
    assert whole(ray_cluster())[0]["spec"]["headGroupSpec"]["rayStartParams"] == {
        "num-cpus": "2",
        "dashboard-host": "0.0.0.0",
    }


def test_token_is_in_no_manifest_and_every_process_of_ray_has_it():
    manifest, additions = whole(MANIFESTS["autoscaler"])
    assert TOKEN not in json.dumps(manifest)
    spec = manifest["spec"]
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    reference = {"secretKeyRef": {"name": "my-cluster-airflow-ray", "key": "auth_token"}}
    for container in (head_of(manifest), worker, spec["autoscalerOptions"]):
        variables = variables_of(container)
        assert (variables["RAY_AUTH_MODE"], variables["RAY_AUTH_TOKEN"]) == ("token", reference)
    assert sets_token(manifest)
    assert secret_name("my-cluster") in additions[-1]


@pytest.mark.parametrize("own", ["authOptions", "variable"])
def test_authentication_of_the_manifest_stays(own):
    given = ray_cluster(authOptions={"mode": "disabled"}) if own == "authOptions" else ray_cluster()
    if own == "variable":
        head_of(given)["env"] = [{"name": "RAY_AUTH_MODE", "value": "disabled"}]
    manifest, _ = whole(given)
    assert "RAY_AUTH_TOKEN" not in json.dumps(manifest)
    assert not sets_token(manifest)


def test_whole_manifest_needs_nothing():
    once, _ = whole(MANIFESTS["options of the autoscaler"])
    again, additions = whole(copy.deepcopy(once))
    assert again == once
    assert additions == []


def test_labels_of_the_manifest_stay_beside_those_of_airflow():
    manifest = read_manifest(
        {**ray_cluster(), "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}, "annotations": {"a": "b"}}}
    )
    origin = Origin("my_dag", "run 1", "make")
    named(manifest, "x", "ray", origin.labels, origin.annotations)
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert manifest["metadata"]["annotations"] == {
        "a": "b",
        "airflow-ray/dag-id": "my_dag",
        "airflow-ray/run-id": "run 1",
        "airflow-ray/task-id": "make",
    }


@pytest.mark.parametrize("part", ["ports", "env", "rayStartParams", "workerGroupSpecs"])
def test_manifest_that_is_not_built_like_one_is_refused_in_words(part):
    given = ray_cluster()
    if part in ("ports", "env"):
        head_of(given)[part] = ["not a mapping"]
    elif part == "rayStartParams":
        given["spec"]["headGroupSpec"][part] = {"port": "none"}
    else:
        given["spec"][part] = ["not a mapping"]
    with pytest.raises(RayClusterManifestError, match=r"manifest"):
        whole(given)


@pytest.mark.parametrize(
    ("mode", "port", "access"),
    [
        ("gateway", None, Access("gateway", 8815, TOKEN)),
        ("gateway", 30815, Access("gateway", 30815, TOKEN)),
        ("client", None, Access("client", 10001, TOKEN)),
        ("driver", None, Access("gcs-server", 6379, TOKEN)),
    ],
)
def test_access_is_what_the_connection_says(mode, port, access):
    assert access_of(settings(port=port, extra={"mode": mode})) == access


def test_gateway_without_a_token_is_refused_before_anything_is_made():
    with pytest.raises(RayConfigurationError, match="token"):
        access_of(settings(password=None, extra={"mode": "gateway"}))


def test_connection_that_computes_on_the_machine_of_airflow_is_refused():
    with pytest.raises(RayConfigurationError, match="mode local"):
        access_of(settings(host=None, extra={"mode": "local"}))
