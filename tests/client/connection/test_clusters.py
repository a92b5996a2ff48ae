"""A connection that leads to a cluster for each DAG run, and addresses that Kubernetes tells."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from types import SimpleNamespace

import pytest

from airflow_ray.client.client import RayClient
from airflow_ray.client.connection import clusters
from airflow_ray.client.connection.clusters import Cluster, cluster_of, settings_at
from airflow_ray.client.connection.gateway_session import peer_at
from airflow_ray.client.connection.kubernetes_address import name_and_namespace
from airflow_ray.client.connection.link import Link
from airflow_ray.client.connection.settings import RaySettings, settings_of
from airflow_ray.client.jobs import jobs
from airflow_ray.client.jobs.jobs import open_dashboard
from airflow_ray.client.run_cluster import dag_name, run_name
from airflow_ray.exceptions import (
    RayClusterGoneError,
    RayClusterNotNamedError,
    RayConfigurationError,
    RayConnectionError,
)
from airflow_ray.triggers import RayJobTrigger
from tests.client.connection.test_settings import Fields
from tests.rayclusters import RayClusters

TOKEN = "a-token-of-sixteen-characters"


def of(host: str, **extra) -> RaySettings:
    return settings_of(Fields(host, password=TOKEN, **{"mode": "gateway", **extra}))


# Which cluster


@pytest.mark.parametrize(
    ("host", "cluster"),
    [
        ("head", Cluster("x")),
        ("{dag}.ray", Cluster("x", "sales")),
        ("{run}.ray", Cluster("x", "sales", "one")),
        ("{dag}-{run}", Cluster("x", "sales", "one")),
    ],
)
def test_host_tells_what_has_a_cluster_of_its_own(host, cluster):
    settings = of(host)
    assert cluster_of(settings, "sales", "one") == cluster
    assert settings_at(settings, "sales", "one").cluster == cluster


def test_names_stand_in_host_and_dashboard():
    settings = settings_at(of("{run}.ray", dashboard_url="https://{run}.example.com"), "sales", "one")
    name = run_name("sales", "one")
    assert (settings.address, settings.dashboard_url) == (f"{name}.ray:8815", f"https://{name}.example.com")
    assert settings_at(of("{dag}.ray"), "sales", "one").host == f"{dag_name('sales')}.ray"


def test_copies_of_settings_are_of_the_same_cluster():
    settings = settings_at(of("{run}"), "sales", "one")
    assert settings.model_copy(update={"connect_timeout": 1.0}).cluster == Cluster("x", "sales", "one")


def test_run_that_is_not_named_is_asked_for():
    with pytest.raises(RayClusterNotNamedError, match=r"own for each DAG run, '\{run\}'.*name dag_id and run_id"):
        settings_at(of("{run}"), "sales", None)
    with pytest.raises(RayClusterNotNamedError, match=r"own for each DAG, '\{dag\}'.*name dag_id"):
        settings_at(of("{dag}"), None, None)


def test_settings_of_no_cluster_lead_nowhere():
    with pytest.raises(RayClusterNotNamedError):
        of("{run}").located()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"host": "{task}.ray"}, "host holds '{task}', which stands for nothing. {run} stands for"),
        ({"host": "{ run }"}, "host holds '{ run }', which stands for nothing"),
        ({"host": "run}"}, "host holds '}', which stands for nothing"),
        (
            {"host": "head", "dashboard_url": "http://{run}"},
            "dashboard_url holds {run}, and host does not: one cluster has one dashboard",
        ),
        (
            {"host": "head", "mode": "driver", "kubernetes_conn_id": "k"},
            "kubernetes_conn_id is for the modes gateway and client, and mode is driver",
        ),
        (
            {"host": None, "mode": "local", "kubernetes_conn_id": "k"},
            "kubernetes_conn_id is for the modes gateway and client, and mode is local",
        ),
        (
            {"host": "Head_1", "kubernetes_conn_id": "k"},
            "host must be the name of a RayCluster where kubernetes_conn_id is set, such as {run} or",
        ),
        (
            {"host": "{run}", "mode": "client", "tls": True, "kubernetes_conn_id": "k"},
            "mode client cannot check the certificate of a cluster whose address Kubernetes tells",
        ),
    ],
)
def test_field_that_makes_no_sense_is_told(fields, text):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(**{"mode": "gateway", "password": TOKEN, **fields}))
    assert str(caught.value).startswith(f"Connection 'x': {text}")


# The way there


@pytest.fixture
def runs(monkeypatch):
    """The id of a connection that leads to a cluster for each run."""
    monkeypatch.setenv("AIRFLOW_CONN_RAY_RUNS", "ray://%7Brun%7D.invalid?mode=driver&connect_timeout=0.1")
    return "ray_runs"


def test_client_of_one_run_is_another_than_that_of_the_next(runs):
    client = RayClient(runs)
    one, two = client.at("sales", "one"), client.at("sales", "two")
    assert one is client.at("sales", "one")
    assert one is one.at("sales", "one")
    assert one.settings.host == f"{run_name('sales', 'one')}.invalid"
    assert two.settings.host == f"{run_name('sales', 'two')}.invalid"


def test_client_of_one_cluster_is_that_of_each_run(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here")
    client = RayClient("ray_here")
    assert client.at("sales", "one") is client.at(None, None) is client


@pytest.mark.parametrize("verb", [lambda client: client.list_objects(), lambda client: client.release(dag_id="sales")])
def test_verb_without_a_run_says_what_to_name(runs, verb):
    with pytest.raises(RayClusterNotNamedError, match="name dag_id and run_id, or an object URI"):
        verb(RayClient(runs))


def test_name_that_no_server_knows_is_a_cluster_that_is_gone(runs, monkeypatch):
    asked = []

    def unknown(host, *_):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(clusters.socket, "getaddrinfo", unknown)
    name = run_name("sales", "one")
    with pytest.raises(RayClusterGoneError, match=rf"does not know {name}.invalid.*run 'one' of DAG 'sales'"):
        Link(runs, "sales", "one").call("describe", "x")
    assert set(asked) == {f"{name}.invalid"}


def test_name_that_a_server_comes_to_know_is_waited_for(monkeypatch):
    answers = [socket.gaierror(socket.EAI_NONAME, "not yet"), []]

    def known_later(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(clusters, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(clusters.socket, "getaddrinfo", known_later)
    clusters.require_known_name("head", Cluster("x", "sales", "one"), 60.0)
    assert answers == []


def test_name_server_that_fails_says_nothing_of_the_cluster(monkeypatch):
    def fails(*_):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(clusters.socket, "getaddrinfo", fails)
    clusters.require_known_name("head", Cluster("x", "sales", "one"), 60.0)


# Kubernetes


@pytest.fixture
def kubernetes(monkeypatch):
    server = RayClusters()
    monkeypatch.setenv("AIRFLOW_CONN_KUBE", server.connection())
    yield server
    server.close()


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("sales", ("sales", "default")),
        ("sales.ray", ("sales", "ray")),
        ("sales-head-svc.ray.svc", ("sales", "ray")),
        ("sales-head-svc.ray.svc.cluster.local.", ("sales", "ray")),
        ("sales.", ("sales", "default")),
    ],
)
def test_host_names_a_raycluster_or_its_service(host, place):
    assert name_and_namespace(host, "default") == place


def test_kubernetes_tells_the_address_and_the_certificate_names_the_host(kubernetes):
    kubernetes.set_address(run_name("sales", "one"), "10.0.0.7", "ray")
    settings = settings_at(of("{run}-head-svc.ray.svc", kubernetes_conn_id="kube", tls=True), "sales", "one")
    located = settings.located()
    assert located.address == "10.0.0.7:8815"
    assert located.authentication.tls.name == f"{run_name('sales', 'one')}-head-svc.ray.svc"
    assert located.cluster == Cluster("x", "sales", "one")
    assert settings.host == f"{run_name('sales', 'one')}-head-svc.ray.svc"


def test_address_is_asked_for_again_for_each_connection(kubernetes):
    settings = of("sales", kubernetes_conn_id="kube")
    for address in ("10.0.0.7", "10.0.0.8"):
        kubernetes.set_address("sales", address)
        assert settings.located().host == address


def test_dashboard_of_jobs_is_at_the_address_unless_the_connection_says_where(kubernetes):
    kubernetes.set_address("sales", "10.0.0.7")
    settings = of("sales", kubernetes_conn_id="kube")
    assert open_dashboard(settings).url == "http://10.0.0.7:8265"
    told = of("sales", kubernetes_conn_id="kube", dashboard_url="https://ray.example.com")
    assert open_dashboard(told).url == "https://ray.example.com"


@pytest.mark.parametrize("of_task", [True, False], ids=["of_the_task", "told"])
def test_trigger_of_a_job_finds_the_cluster_of_its_run(runs, monkeypatch, of_task):
    followed = []

    async def follow(settings, *_):
        followed.append(settings.cluster)

    monkeypatch.setattr(jobs, "follow_in_triggerer", follow)
    run = {} if of_task else {"run": ["sales", "one"]}
    trigger = RayJobTrigger(runs, "job", resume={"settle_seconds": 0.0, **run})
    if of_task:
        trigger.task_instance = SimpleNamespace(dag_id="sales", run_id="one", task_id="job")
    event = asyncio.run(anext(trigger.run()))
    assert (event.payload["status"], followed) == ("ended", [Cluster(runs, "sales", "one")])


@pytest.mark.parametrize(
    ("host", "clusters"),
    [
        ("{run}", [("a", "one"), ("b", "one")]),
        ("{dag}", [("a", None), ("b", None), ("c", None)]),
        ("{dag}.ray", [("a", None), ("b", None), ("c", None)]),
    ],
)
def test_kubernetes_tells_which_clusters_there_are(kubernetes, monkeypatch, host, clusters):
    fields = {"conn_type": "ray", "host": host, "password": TOKEN, "extra": {"mode": "gateway"}}
    fields["extra"]["kubernetes_conn_id"] = "kube"
    monkeypatch.setenv("AIRFLOW_CONN_RAY_MANY", json.dumps(fields))
    for name, ids in {
        run_name("a", "one"): {"dag_id": "a", "run_id": "one"},
        run_name("b", "one"): {"dag_id": "b", "run_id": "one"},
        **{dag_name(dag_id): {"dag_id": dag_id} for dag_id in "abc"},
        # Which another connection leads to.
        f"large-{run_name('x', 'one')}": {"dag_id": "x", "run_id": "one"},
        f"large-{dag_name('x')}": {"dag_id": "x"},
        "of_nobody": {},
    }.items():
        kubernetes.set_address(name, "10.0.0.7", **ids)
    client = RayClient("ray_many")
    assert [tuple(each.settings.cluster)[1:] for each in client.each(None, None)] == clusters
    assert [tuple(each.settings.cluster)[1:] for each in client.each("a", None)] == clusters[:1]
    assert client.each("d", "one") == [client.at("d", "one")]


def test_namespace_is_that_of_the_kubernetes_connection_unless_the_host_names_one(kubernetes, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_KUBE", kubernetes.connection(namespace="team"))
    kubernetes.set_address("sales", "10.0.0.7", "team")
    assert of("sales", kubernetes_conn_id="kube").located().host == "10.0.0.7"


def test_pod_without_a_service_address_is_reached_itself(kubernetes):
    kubernetes.statuses["default", "sales"] = {"head": {"serviceIP": "None", "podIP": "10.0.0.9"}}
    kubernetes.statuses["default", "other"] = {"head": {"podIP": "10.0.0.9"}}
    assert of("other", kubernetes_conn_id="kube").located().host == "10.0.0.9"
    assert of("sales", kubernetes_conn_id="kube").located().host == "10.0.0.9"


def test_cluster_that_kubernetes_does_not_know_is_gone(kubernetes):
    with pytest.raises(RayClusterGoneError, match=r"no RayCluster 'sales' in namespace 'default': it was deleted"):
        of("sales", kubernetes_conn_id="kube").located()


@pytest.mark.parametrize(
    ("status", "words"),
    [({}, "its operator has not said anything of it"), ({"state": "suspended"}, "suspended")],
)
def test_cluster_without_an_address_yet_is_told(kubernetes, status, words):
    kubernetes.statuses["default", "sales"] = status
    with pytest.raises(RayConnectionError, match=rf"'sales' in namespace 'default' has no address yet: {words}"):
        of("sales", kubernetes_conn_id="kube").located()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            (403, {"message": "cannot get resource"}),
            RayConfigurationError,
            "The address of the RayCluster .* not allow .* cannot get",
        ),
        ((401, {"message": "Unauthorized"}), RayConfigurationError, "does not accept the credentials .*Unauthorized"),
        (
            (404, {"message": "404 page not found"}),
            RayConfigurationError,
            "knows no rayclusters.* Install KubeRay",
        ),
        ((500, {"message": "etcd is away"}), RayConnectionError, "does not tell the address.*etcd is away"),
    ],
    ids=["forbidden", "unauthorized", "no-crd", "broken"],
)
def test_kubernetes_that_refuses_is_told(kubernetes, answer, kind, words):
    kubernetes.answer = answer
    with pytest.raises(kind, match=words):
        of("sales", kubernetes_conn_id="kube").located()


def test_kubernetes_that_is_away_is_told(kubernetes):
    settings = of("sales", kubernetes_conn_id="kube")
    kubernetes.close()
    with pytest.raises(RayConnectionError, match="the connection 'kube' leads to, does not tell the address"):
        settings.located()


def test_provider_that_is_not_installed_is_told(kubernetes, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    with pytest.raises(RayConfigurationError, match=r"pip install 'airflow-ray\[kuberay\]'"):
        of("sales", kubernetes_conn_id="kube")


def test_connection_without_kubernetes_is_told(monkeypatch, tmp_path):
    extra = {"kube_config_path": str(tmp_path / "none")}
    monkeypatch.setenv("AIRFLOW_CONN_KUBE", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with pytest.raises(RayConfigurationError, match="'kube' leads to no Kubernetes"):
        of("sales", kubernetes_conn_id="kube")


@pytest.mark.parametrize("host", ["fd00::7", "[fd00::7]"])
def test_address_of_version_6_is_one_that_arrow_flight_takes(host):
    peer = peer_at(of(host).address, of(host))
    assert peer.client._location.uri == b"grpc+tcp://[fd00::7]:8815"
