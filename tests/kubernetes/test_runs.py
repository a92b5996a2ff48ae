"""DAG runs with a Ray cluster each, under a real scheduler and a real triggerer: real heads, and no real Kubernetes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.client.run_cluster import run_name
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.kubelet import Fate, Trouble
from tests.kubernetes.kuberay import KubeRay
from tests.kubernetes.network import reason_against
from tests.kubernetes.store import PODS, RAY_CLUSTERS, SECRETS, SERVICES
from tools.standalone import StandaloneAirflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DAG_ID, READER, KILLED = "cluster_of_run", "reads_an_earlier_run", "killed"
# On a busy machine Ray may end a head that has begun, which takes a minute then, and KubeRay runs it once more.
START_SECONDS, RUN_SECONDS = 500, 800
KINDS = (RAY_CLUSTERS, PODS, SERVICES, SECRETS)


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    if reason := reason_against():
        pytest.skip(f"A pod cannot have a network of its own: {reason}")
    with closing(ApiServer(tmp_path_factory.mktemp("kubernetes"))) as api:
        yield api


@pytest.fixture(scope="module")
def operator(kubernetes: ApiServer) -> Iterator[KubeRay]:
    with closing(KubeRay(kubernetes, real_heads=True)) as operator:
        yield operator
    assert operator.errors == []


@pytest.fixture(scope="module")
def airflow(
    kubernetes: ApiServer, operator: KubeRay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    extra = {"mode": "gateway", "kubernetes_conn_id": "kubernetes_default", "connect_timeout": 300}
    extra |= {"checkpoint_path": f"file://{folder}/checkpoints"}
    to_ray = {"conn_type": "ray", "host": "{run}", "password": secrets.token_hex(16), "extra": extra}
    environment = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": kubernetes.connection(),
        "AIRFLOW_CONN_RAY_RUN": json.dumps(to_ray),
        "AIRFLOW__CORE__PARALLELISM": "4",
    }
    with StandaloneAirflow(folder / "home", Path(__file__).parent / "dags", environment) as airflow:
        yield airflow


@dataclass
class Runs:
    """Two runs at once, the second of which fails at its end, and what was there meanwhile and afterwards."""

    folder: Path
    ids: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    #: Addresses of the heads, all of which ran at one time.
    addresses: set[str] = field(default_factory=set)
    endpoints: list[dict[str, str]] = field(default_factory=list)
    left: list[Any] = field(default_factory=list)

    @property
    def succeeds(self) -> Path:
        """What the second one fails without."""
        return self.folder / "second"


def await_that(is_so: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def left(kubernetes: ApiServer, operator: KubeRay) -> list[Any]:
    """Return what is there of Ray clusters; a pod that is ending is let to."""
    await_that(lambda: not [pod for pod in kubernetes.store.list(PODS) if "deletionTimestamp" in pod["metadata"]])
    return [
        *(each["metadata"]["name"] for kind in KINDS for each in kubernetes.store.list(kind)),
        *operator.kubelet.heads(),
    ]


@pytest.fixture(scope="module")
def runs(
    airflow: StandaloneAirflow, kubernetes: ApiServer, operator: KubeRay, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    gate, first = runs.folder / "gate", runs.folder / "first"
    first.touch()
    for succeeds in (first, runs.succeeds):
        runs.ids.append(airflow.trigger(DAG_ID, {"gate": str(gate), "succeeds": str(succeeds)}))
    await_that(lambda: len(operator.kubelet.heads()) == 2)
    await_that(
        lambda: [each.get("status", {}).get("state") for each in kubernetes.store.list(RAY_CLUSTERS)] == ["ready"] * 2
    )
    runs.addresses = {head.address for head in operator.kubelet.heads()}
    runs.endpoints = [each["status"]["endpoints"] for each in kubernetes.store.list(RAY_CLUSTERS)]
    gate.touch()
    runs.states = [airflow.wait(DAG_ID, run_id, RUN_SECONDS) for run_id in runs.ids]
    runs.left = left(kubernetes, operator)
    return runs


def test_frame_goes_from_task_to_task_over_the_gateway_of_the_run_s_own_cluster(airflow, runs):
    assert runs.states[0] == "success"
    value, address = airflow.xcoms(DAG_ID, runs.ids[0], "total")["return_value"]
    assert (value, address in runs.addresses) == (999_000, True)
    assert {each["gateway"] for each in runs.endpoints} == {"8815"}


def test_two_runs_at_once_have_a_cluster_each(airflow, runs):
    assert len(runs.addresses) == 2
    names = [airflow.xcoms(DAG_ID, run_id, "make_cluster")["return_value"] for run_id in runs.ids]
    assert len(set(names)) == 2


def test_log_tells_what_was_added_and_what_is_waited_for(airflow, runs):
    log = airflow.log(DAG_ID, runs.ids[0], "make_cluster")
    assert "Added to the manifest, which lacks it: the head's ports" in log
    assert "can run work" in log


def test_run_that_fails_leaves_no_cluster_either(airflow, runs):
    assert runs.states[1] == "failed"
    states = {each["task_id"]: each["state"] for each in airflow.task_instances(DAG_ID, runs.ids[1])}
    assert (states["total"], states["delete_cluster"]) == ("failed", "success")
    assert runs.left == []


@pytest.fixture(scope="module")
def later(airflow: StandaloneAirflow, kubernetes: ApiServer, operator: KubeRay, runs: Runs) -> Runs:
    """A run that reads a checkpoint of the first one; the second one, cleared; one that is killed while it waits."""
    later = Runs(runs.folder)
    runs.succeeds.touch()
    uri = airflow.xcoms(DAG_ID, runs.ids[0], "double")["return_value"]
    later.ids = [airflow.trigger(READER, {"uri": uri}), runs.ids[1]]
    airflow.clear(DAG_ID, runs.ids[1], "total", downstream=True)
    killed = run_name(DAG_ID, KILLED)
    operator.kubelet.fates[killed] = Fate(Trouble.UNSCHEDULABLE)
    airflow.trigger(DAG_ID, {"gate": "/nowhere", "succeeds": "/nowhere"}, run_id=KILLED)
    await_that(lambda: airflow.task_instances(DAG_ID, KILLED)[0]["state"] == "deferred")
    # Kubernetes has it, and the triggerer waits for it.
    await_that(lambda: "no node has room for its head" in airflow.log(DAG_ID, KILLED, "make_cluster"))
    airflow.set_state(DAG_ID, KILLED, "make_cluster", "failed")
    dags = READER, DAG_ID
    later.states = [airflow.wait(dag_id, run_id, RUN_SECONDS) for dag_id, run_id in zip(dags, later.ids, strict=True)]
    later.states.append(airflow.wait(DAG_ID, KILLED, RUN_SECONDS))
    await_that(lambda: not kubernetes.store.list(RAY_CLUSTERS))
    later.left = left(kubernetes, operator)
    return later


def test_run_reads_the_checkpoint_of_another_whose_cluster_is_gone(airflow, later):
    assert later.states[0] == "success"
    assert airflow.xcoms(READER, later.ids[0], "rows")["return_value"] == 1000


def test_task_that_is_cleared_gets_a_new_cluster_and_its_input_from_the_checkpoint(airflow, runs, later):
    assert later.states[1] == "success"
    value, address = airflow.xcoms(DAG_ID, later.ids[1], "total")["return_value"]
    assert (value, address in runs.addresses) == (999_000, False)
    tries = {each["task_id"]: each["try_number"] for each in airflow.task_instances(DAG_ID, later.ids[1])}
    assert tries == {"make_cluster": 2, "measure": 1, "double": 1, "total": 2, "delete_cluster": 2}


def test_run_that_is_killed_while_it_waits_for_its_cluster_leaves_none(later):
    assert later.states[2] == "failed"
    assert later.left == []
