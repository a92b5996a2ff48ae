"""Whose a cluster is."""

from __future__ import annotations

import re

import pytest

from airflow_ray.client.kuberay import origin
from airflow_ray.client.kuberay.origin import Origin, require_own, run_of
from airflow_ray.client.run_cluster import dag_name, run_name
from airflow_ray.exceptions import RayClusterForeignError

# Of Kubernetes.
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
RUN_ID = "scheduled__2026-05-01T00:00:00+00:00"


def cluster_of(made: Origin):
    return {"metadata": {"name": "x", "namespace": "n", "labels": made.labels, "annotations": made.annotations}}


@pytest.mark.parametrize("task_id", ["make", "group.make_cluster", "größe 1", "a" * 250, "-_", "__make__"])
def test_labels_are_what_kubernetes_takes(task_id):
    labels = Origin("Straße des 17. Juni", RUN_ID, task_id).labels
    for text in labels.values():
        assert LABEL_VALUE.fullmatch(text)
        assert 0 < len(text) <= 63


def test_tasks_whose_names_differ_only_in_what_a_label_cannot_hold_have_other_labels():
    first, second = (Origin("dag", None, task_id).labels for task_id in ("make it", "make-it"))
    assert first["airflow-ray/task"] != second["airflow-ray/task"]


def test_run_is_read_back_as_it_was():
    assert run_of(cluster_of(Origin("my dag", RUN_ID, "make"))) == ("my dag", RUN_ID)


@pytest.mark.parametrize("name", ["{dag}", "fixed", "x-{dag}"])
def test_cluster_whose_name_holds_no_run_is_of_several(name):
    made = Origin.of(name, "dag", RUN_ID, "make")
    assert run_of(cluster_of(made)) is None
    assert "airflow-ray/run" not in made.labels
    assert made.labels["airflow-ray/dag"] == dag_name("dag")


@pytest.mark.parametrize("name", ["{run}", "x-{run}", "rendered"])
def test_cluster_whose_name_holds_a_run_is_of_that(name):
    name = run_name("dag", RUN_ID) if name == "rendered" else name
    made = Origin.of(name, "dag", RUN_ID, "make")
    assert run_of(cluster_of(made)) == ("dag", RUN_ID)
    assert made.labels["airflow-ray/run"] == run_name("dag", RUN_ID)


def test_own_cluster_is_own():
    require_own(cluster_of(Origin("dag", None, "make")))


def test_cluster_of_another_installation_is_foreign(monkeypatch):
    cluster = cluster_of(Origin("dag", None, "make"))
    monkeypatch.setattr(origin, "installation", lambda: "another")
    with pytest.raises(RayClusterForeignError, match="another Airflow installation"):
        require_own(cluster)


@pytest.mark.parametrize("labels", [None, {}, {"team": "a"}])
def test_cluster_that_somebody_has_made_by_hand_is_foreign(labels):
    with pytest.raises(RayClusterForeignError, match="somebody else"):
        require_own({"metadata": {"name": "x", "namespace": "n", "labels": labels}})
