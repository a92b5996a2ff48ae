"""The commands that list and prune Ray clusters, the hook, and the example DAGs, against the double of Kubernetes."""

from __future__ import annotations

import json
import runpy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.models.dagrun import DagRun
from airflow.sdk import task
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType

from airflow_ray.__main__ import main
from airflow_ray._compat import is_run_unfinished
from airflow_ray.client.run_cluster import run_name
from airflow_ray.exceptions import RayClusterDeletedError, RayClusterForeignError, RayClusterManifestError
from airflow_ray.hooks.kuberay import KubeRayHook
from tests.dag_runs import new_dag, run_dag
from tests.kubernetes.manifests import ray_cluster
from tests.kubernetes.store import RAY_CLUSTERS, Write

EXAMPLES = Path(__file__).parents[2] / "examples"
DAG_ID = "of_commands"


@pytest.fixture(autouse=True)
def connection(api, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", api.connection())


@pytest.fixture
def hook() -> KubeRayHook:
    return KubeRayHook()


def make(hook: KubeRayHook, run_id: str | None, dag_id: str = DAG_ID) -> str:
    name = "shared" if run_id is None else run_name(dag_id, run_id)
    hook.apply(ray_cluster(name), dag_id=dag_id, run_id=run_id, task_id="make")
    return name


def add_run(run_id: str, state: str) -> None:
    now = datetime.now(timezone.utc)
    kind = DagRunType.MANUAL
    run = DagRun(dag_id=DAG_ID, run_id=run_id, state=state, run_type=kind, logical_date=now, run_after=now)
    with create_session() as session:
        session.add(run)


@pytest.fixture
def runs(database):
    """The ids of a run that goes on, of one that is queued, and of one that has ended."""
    states = {"running": "running", "queued": "queued", "ended": "success", "failed": "failed"}
    for run_id, state in states.items():
        add_run(run_id, state)
    yield [*states]
    with create_session() as session:
        for run in session.query(DagRun).where(DagRun.dag_id == DAG_ID):
            session.delete(run)


def names_in(api) -> set[str]:
    return {each["metadata"]["name"] for each in api.store.list(RAY_CLUSTERS)}


def told_by(capsys, *arguments: str) -> str:
    main(["clusters", *arguments])
    return str(capsys.readouterr().out)


def test_only_clusters_of_runs_that_go_on_are_left(api, hook, runs, capsys):
    made = {run_id: make(hook, run_id) for run_id in [*runs, "in no database", None]}
    printed = told_by(capsys, "prune", "--yes")
    assert names_in(api) == {made["running"], made["queued"], made[None]}
    assert printed.endswith("Deleted 3 clusters\n")
    assert told_by(capsys, "prune", "--yes") == "No cluster was deleted\n"


def test_clusters_of_some_age_go_too(api, hook, runs, capsys):
    made = [make(hook, "running"), make(hook, None)]
    assert hook.prune(older_than=timedelta(hours=1)) == []
    assert {each.name for each in hook.prune(older_than=timedelta(microseconds=1))} == set(made)
    assert names_in(api) == set()


@pytest.mark.parametrize("answer", ["n", ""])
def test_nothing_is_deleted_unless_the_user_agrees(api, hook, database, capsys, mocker, answer):
    name = make(hook, "in no database")
    mocker.patch("builtins.input", return_value=answer)
    assert told_by(capsys, "prune") == f"{name}\nNo cluster was deleted\n"
    assert names_in(api) == {name}


def test_list_tells_of_each_cluster_why_nobody_needs_it(hook, runs, capsys):
    make(hook, "running")
    make(hook, "ended")
    make(hook, None)
    rows = {row["name"]: row for row in json.loads(told_by(capsys, "list", "-o", "json"))}
    ended = rows[run_name(DAG_ID, "ended")]
    assert (ended["dag_id"], ended["run_id"], ended["namespace"]) == (DAG_ID, "ended", "default")
    assert "has ended" in ended["needless"]
    assert rows[run_name(DAG_ID, "running")]["needless"] is None
    assert rows["shared"]["run_id"] is None
    assert run_name(DAG_ID, "ended") in told_by(capsys, "list")


def test_commands_tell_errors_in_one_line(api, capsys):
    with api.forbidden("list"), pytest.raises(SystemExit) as ended:
        told_by(capsys, "list")
    assert "cannot list resource" in str(ended.value.code)
    with pytest.raises(SystemExit) as ended:
        told_by(capsys, "list", "--older-than", "0")
    assert "--older-than must be a number of hours over 0" in str(ended.value.code)


def test_task_prunes_by_what_the_api_of_airflow_tells(api, hook, runs):
    """A task asks Airflow otherwise than a command: it has no database."""
    made = {run_id: make(hook, run_id) for run_id in ("running", "ended")}

    @task
    def prune() -> dict[str, Any]:
        pruned = [each.name for each in KubeRayHook().prune()]
        return {"pruned": pruned, "running": is_run_unfinished(DAG_ID, "running")}

    with (dag := new_dag({})):
        prune()
    result = run_dag(dag)
    assert result.state == "success"
    assert result.xcom("prune") == {"pruned": [made["ended"]], "running": True}


def test_hook_waits_and_deletes(hook, kuberay):
    name = make(hook, "one")
    assert hook.wait(name, timeout=60, poll_interval=0.1) == "0 of 0 worker pods are ready"
    assert hook.get(name)["metadata"]["name"] == name
    assert hook.delete(name)
    assert not hook.delete(name)
    with pytest.raises(RayClusterDeletedError, match="There is no Ray cluster"):
        hook.wait(name)


def test_hook_leaves_clusters_of_others_alone(api, hook):
    api.store.create(RAY_CLUSTERS, "default", ray_cluster("theirs"), Write("kubectl"))
    assert hook.list() == []
    assert hook.get("theirs") is not None
    with pytest.raises(RayClusterForeignError):
        hook.delete("theirs")


def test_hook_takes_no_cluster_without_a_name(hook):
    with pytest.raises(RayClusterManifestError, match="name"):
        hook.apply(ray_cluster(), dag_id=DAG_ID, run_id=None, task_id="make")


def test_manifest_of_the_example_is_one(api):
    from jinja2 import Template

    example = runpy.run_path(str(EXAMPLES / "kuberay_run_cluster.py"))
    manifest = yaml.safe_load(Template(example["MANIFEST"]).render(params={"image": "ray:1", "workers": 1}))
    manifest["metadata"] = {"name": "of-the-example"}
    KubeRayHook().apply(manifest, dag_id=DAG_ID, run_id=None, task_id="make")
    assert names_in(api) == {"of-the-example"}
