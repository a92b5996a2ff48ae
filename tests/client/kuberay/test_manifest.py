"""What is taken for a manifest, and what is not, each with its own words."""

from __future__ import annotations

import pytest

from airflow_ray.client.kuberay.manifest import is_file_name, read_manifest, require_name
from airflow_ray.exceptions import RayClusterManifestError, RayConfigurationError
from tests.kubernetes.manifests import ray_cluster


def refusal_of(source):
    with pytest.raises(RayClusterManifestError) as refused:
        read_manifest(source)
    return str(refused.value)


def test_what_is_returned_is_a_copy():
    given = ray_cluster("x")
    read_manifest(given)["spec"]["headGroupSpec"]["template"]["spec"]["containers"].clear()
    assert given == ray_cluster("x")


def test_manifest_may_be_the_text_of_json():
    import json

    assert read_manifest(json.dumps(ray_cluster("x"))) == ray_cluster("x")


def test_what_kubernetes_itself_writes_is_left_out():
    written = {"uid": "1", "resourceVersion": "2", "managedFields": [], "labels": {"team": "a"}, "finalizers": ["x"]}
    read = read_manifest({**ray_cluster("x"), "metadata": {"name": "x", **written}, "status": {"state": "ready"}})
    assert read["metadata"] == {"name": "x", "labels": {"team": "a"}, "finalizers": ["x"]}
    assert "status" not in read


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "there are 0"),
        ("a: 1\n---\nb: 2", "there are 2"),
        ("a: b: c", "not YAML"),
        ("- a", "is a list"),
        (42, "is a int"),
        ("kind: Pod\napiVersion: v1", "its kind is 'Pod'"),
        ({**ray_cluster(), "kind": "RayJob"}, "rayClusterSpec"),
        ({**ray_cluster(), "apiVersion": "ray.io/v1alpha1"}, "ray.io/v1, and it has 'ray.io/v1alpha1'"),
        ({**ray_cluster(), "metadata": "name"}, "metadata"),
        ({**ray_cluster(), "metadata": {"labels": ["team"]}}, "labels"),
        ({**ray_cluster(), "spec": None}, "headGroupSpec"),
        ({**ray_cluster(), "spec": {"headGroupSpec": {"template": {"spec": {"containers": []}}}}}, "no container"),
        ({**ray_cluster(), "spec": {"headGroupSpec": "head"}}, "no container"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(source, told):
    assert told in refusal_of(source)


def test_refusal_is_an_error_of_configuration():
    with pytest.raises(RayConfigurationError):
        read_manifest("- a")


@pytest.mark.parametrize("name", ["Ray", "1-ray", "ray-", "ray_1", "", "a" * 54, "ray.io"])
def test_name_that_kubernetes_would_not_take_is_refused(name):
    with pytest.raises(RayClusterManifestError, match="got"):
        require_name(name)


def test_names_of_files_are_told_from_yaml():
    assert is_file_name("ray.yaml")
    assert is_file_name(" clusters/ray.yml ")
    assert not is_file_name("kind: RayCluster")
    assert not is_file_name("kind: RayCluster\nfile: ray.yaml")
    assert not is_file_name({"kind": "RayCluster"})
