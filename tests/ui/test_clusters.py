"""The page in the navigation: the clusters of connections that lead to one for each DAG run, or for each DAG."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from airflow_ray.client.run_cluster import dag_name, run_name
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.ui import clusters
from tests.dag_runs import new_dag, run_dag
from tests.rayclusters import RayClusters
from tests.ui.conftest import SAME_ORIGIN, run_address

pytestmark = pytest.mark.usefixtures("database")

HERE = "127.0.0.1"
# Nobody listens there.
NOWHERE = "127.0.0.3"


def connection_of(head, host, **extra) -> str:
    port, token = head.gateway
    extra = {"mode": "gateway", "connect_timeout": 30, **extra}
    return json.dumps({"conn_type": "ray", "host": host, "port": port, "password": token, "extra": extra})


@pytest.fixture(scope="module")
def kubernetes(head) -> Iterator[RayClusters]:
    """Knows where the cluster of each run is: all of them are the one head."""
    server = RayClusters()
    server.elsewhere = HERE
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_NAV_KUBE", server.connection())
        patch.setenv("AIRFLOW_CONN_NAV_RUNS", connection_of(head, "{run}", kubernetes_conn_id="nav_kube"))
        yield server
    server.close()


@pytest.fixture(scope="module")
def dag(kubernetes):
    with new_dag({}) as dag:
        RayPythonOperator(task_id="make", python_callable=list, op_args=["abc"], ray_conn_id="nav_runs")
    return dag


@pytest.fixture(scope="module")
def runs(dag, database, kubernetes) -> Iterator[list[str]]:
    """The ids of two runs, whose clusters Kubernetes lists."""
    run_ids = [run_dag(dag).run_id for _ in range(2)]
    yield run_ids
    with RayHook("nav_runs").connect() as hook:
        for run_id in run_ids:
            hook.release(dag_id=dag.dag_id, run_id=run_id)


@pytest.fixture(autouse=True)
def listed(kubernetes, dag, runs) -> Iterator[None]:
    """Let Kubernetes list the clusters of the two runs, and no other."""
    kubernetes.statuses.clear()
    kubernetes.annotations.clear()
    for run_id in runs:
        kubernetes.set_address(run_name(dag.dag_id, run_id), HERE, dag_id=dag.dag_id, run_id=run_id)
    yield
    kubernetes.answer = None


def section_of(answer, conn_id) -> str:
    """Return what the page shows of a connection."""
    assert answer.status_code == 200
    return re.split(r'<section aria-labelledby="connection-\d+">', answer.text.partition(f'">{conn_id} ')[2])[0]


def clusters_in(section) -> list[str]:
    """Return what the page shows of each cluster of a connection."""
    return section.split('<section class="one-of-several"')[1:]


@pytest.fixture
def op(browser_of):
    return browser_of("op")


def test_cluster_of_each_run_is_shown_with_its_resources_and_objects(op, dag, runs):
    shown = clusters_in(section_of(op.get("/airflow_ray/"), "nav_runs"))
    assert len(shown) == 2
    for run_id, text in zip(reversed(runs), shown, strict=True):
        told = (run_address_of(dag, run_id), ">UP<", "1 node", "CPUs", "gadget", ">make</a>")
        assert [each for each in told if each not in text] == []


def run_address_of(dag, run_id) -> str:
    return f'href="{run_address(type("Run", (), {"run_id": run_id}), dag.dag_id)}"'


def test_who_may_not_read_a_dag_is_not_told_of_its_clusters(browser_of, dag):
    section = section_of(browser_of("admin", "stranger").get("/airflow_ray/"), "nav_runs")
    assert "no cluster at present of a DAG that you may read" in section
    assert dag.dag_id not in section


def test_latest_clusters_are_shown_and_the_number_of_the_others(op, runs, monkeypatch):
    monkeypatch.setattr(clusters, "MAX_CLUSTERS", 1)
    section = section_of(op.get("/airflow_ray/"), "nav_runs")
    assert "1 older cluster is not shown" in section
    (shown,) = clusters_in(section)
    assert f", {runs[-1]}</a>" in shown


def test_cluster_that_does_not_answer_is_told_beside_the_others(op, dag, runs, kubernetes):
    kubernetes.set_address(run_name(dag.dag_id, runs[0]), NOWHERE, dag_id=dag.dag_id, run_id=runs[0])
    later, earlier = clusters_in(section_of(op.get("/airflow_ray/"), "nav_runs"))
    assert ("NO ANSWER" in later, "NO ANSWER" in earlier, NOWHERE in earlier) == (False, True, True)


def test_cluster_of_another_connection_is_left_out(op, dag, kubernetes):
    kubernetes.set_address(f"large-{run_name(dag.dag_id, 'other')}", HERE, dag_id=dag.dag_id, run_id="other")
    kubernetes.set_address(dag_name(dag.dag_id), HERE, dag_id=dag.dag_id)
    assert len(clusters_in(section_of(op.get("/airflow_ray/"), "nav_runs"))) == 2


def test_cluster_that_the_runs_of_a_dag_share_is_shown_once(op, head, dag, kubernetes, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_NAV_DAGS", connection_of(head, "{dag}", kubernetes_conn_id="nav_kube"))
    kubernetes.set_address(dag_name(dag.dag_id), HERE, dag_id=dag.dag_id)
    (shown,) = clusters_in(section_of(op.get("/airflow_ray/"), "nav_dags"))
    assert f">{dag.dag_id} <" in shown
    assert ">UP<" in shown


def test_kubernetes_that_refuses_is_told_and_the_rest_stays(op, kubernetes):
    kubernetes.answer = (
        403,
        {"kind": "Status", "message": "rayclusters is forbidden", "reason": "Forbidden", "code": 403},
    )
    answer = op.get("/airflow_ray/")
    assert "Its clusters cannot be listed" in section_of(answer, "nav_runs")
    assert "1 node" in section_of(answer, "ray_gateway")


def test_kubernetes_that_says_nothing_is_told_and_the_rest_stays(op, head, monkeypatch):
    monkeypatch.setattr(clusters, "SECONDS", 0.2)
    with socket.create_server((HERE, 0)) as silent:
        kubeconfig = json.loads(RayClusters().connection())
        server = kubeconfig["extra"]["kube_config"]["clusters"][0]["cluster"]
        server["server"] = f"http://{HERE}:{silent.getsockname()[1]}"
        monkeypatch.setenv("AIRFLOW_CONN_NAV_SILENT_KUBE", json.dumps(kubeconfig))
        monkeypatch.setenv(
            "AIRFLOW_CONN_NAV_SILENT", connection_of(head, "{run}", kubernetes_conn_id="nav_silent_kube")
        )
        answer = op.get("/airflow_ray/")
    assert "Kubernetes did not answer within 0.1 seconds" in section_of(answer, "nav_silent")
    assert "1 node" in section_of(answer, "ray_gateway")


@pytest.mark.parametrize("host", ["{run}.example.com", "{dag}.example.com"])
def test_connection_without_kubernetes_says_why_it_lists_no_cluster(op, head, monkeypatch, host):
    monkeypatch.setenv("AIRFLOW_CONN_NAV_NAMES", connection_of(head, host))
    section = section_of(op.get("/airflow_ray/"), "nav_names")
    assert "it names no\nKubernetes in <code>kubernetes_conn_id</code>" in section
    assert "NO ANSWER" not in section


def test_run_and_task_are_shown_from_their_own_cluster(op, dag, runs):
    address = run_address(type("Run", (), {"run_id": runs[0]}), dag.dag_id)
    assert ">make</a>" in op.get(address).text
    assert "SUCCEEDED" in op.get(f"{address}/tasks/make/-1").text


def test_release_on_the_page_of_a_run_leaves_the_cluster_of_another_alone(op, dag, runs):
    run = run_dag(dag)
    answer = op.post(f"{run_address(run, dag.dag_id)}/release", headers=SAME_ORIGIN)
    assert answer.headers["location"].endswith("?released=1")
    hook = RayHook("nav_runs")
    assert hook.status(ObjectURI("nav_runs", dag.dag_id, runs[0], "make")) == "SUCCEEDED"
