"""Which clusters nobody needs any more."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_ray.client.kuberay import pruning
from airflow_ray.client.kuberay.origin import Origin
from airflow_ray.client.kuberay.pruning import prune, reason_to_prune

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def cluster(hours: float, run_id: str | None = "run") -> dict:
    made = (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    origin = Origin("dag", run_id, "make")
    metadata = {"name": f"of-{run_id}", "namespace": "ray", "uid": "1", "creationTimestamp": made}
    return {"metadata": {**metadata, "labels": origin.labels, "annotations": origin.annotations}}


@pytest.fixture
def unfinished(mocker):
    """The runs that have not ended."""
    runs = {("dag", "run")}
    mocker.patch.object(pruning, "is_run_unfinished", lambda *run: run in runs)
    return runs


def test_cluster_of_a_run_that_goes_on_is_needed(unfinished):
    assert reason_to_prune(cluster(1), DAY, NOW) is None


def test_cluster_of_a_run_that_has_ended_is_not(unfinished):
    unfinished.clear()
    assert reason_to_prune(cluster(1), None, NOW) == "run 'run' of DAG 'dag' has ended, or is not there any more"


def test_cluster_that_is_too_old_is_not_needed_whatever_its_run_does(unfinished):
    assert reason_to_prune(cluster(25), DAY, NOW) == "it is 25.0 hours old"


def test_cluster_of_several_runs_goes_by_its_age_alone(unfinished):
    unfinished.clear()
    assert reason_to_prune(cluster(1000, None), None, NOW) is None
    assert reason_to_prune(cluster(25, None), DAY, NOW) == "it is 25.0 hours old"


def test_only_what_nobody_needs_is_deleted_and_named(unfinished):
    class Clusters:
        deleted = []

        def own(self):
            return [cluster(1), cluster(1, "ended"), cluster(1, "gone meanwhile")]

        def delete(self, each):
            self.deleted.append(each["metadata"]["name"])
            return each["metadata"]["name"] != "of-gone meanwhile"

    clusters = Clusters()
    assert [each.name for each in prune(clusters, None)] == ["of-ended"]
    assert clusters.deleted == ["of-ended", "of-gone meanwhile"]
