"""What Airflow's statistics send of Ray, as a server for StatsD gets it over UDP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_ray import _compat
from airflow_ray.client.connection.clusters import Cluster
from airflow_ray.client.metrics import ask_totals, tell_end, tell_totals
from airflow_ray.exceptions import RayConnectionError
from airflow_ray.object_uri import ObjectURI

CLUSTER = Cluster("warehouse")
URI = ObjectURI("warehouse", "sales", "run", "load")
TOTALS = {"waiting": 3, "running": 2, "bytes_held": 4096, "bytes_spilled": 512}
ENDED = {"submitted_at": 100.0, "started_at": 102.5, "inputs": []}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What has been sent, of Airflow's own client for StatsD, begun as the process of a task begins it."""
    pytest.importorskip("statsd", reason="the client of StatsD is not installed, which Airflow sends metrics by")
    observability = pytest.importorskip("airflow.sdk.observability.metrics.stats_utils", reason="before Airflow 3.2")
    from airflow.sdk.observability import stats

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(server.getsockname()[1]))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
        stats.initialize(factory=observability.get_stats_factory(), export_legacy_names=True)

        def received() -> list[str]:
            # Over the loopback what was sent is there.
            lines = []
            while True:
                try:
                    lines.append(server.recv(65536).decode())
                except BlockingIOError:
                    return lines

        yield received
        monkeypatch.undo()
        stats.initialize(factory=observability.get_stats_factory(), export_legacy_names=True)


def test_totals_are_gauges_by_tag_and_by_name(sent):
    tell_totals(CLUSTER, TOTALS)
    assert sent() == [
        "airflow.ray.waiting,conn_id=warehouse:3|g",
        "airflow.ray.waiting.warehouse:3|g",
        "airflow.ray.running,conn_id=warehouse:2|g",
        "airflow.ray.running.warehouse:2|g",
        "airflow.ray.bytes_held,conn_id=warehouse:4096|g",
        "airflow.ray.bytes_held.warehouse:4096|g",
        "airflow.ray.bytes_spilled,conn_id=warehouse:512|g",
        "airflow.ray.bytes_spilled.warehouse:512|g",
    ]


def test_what_ray_has_not_told_is_not_sent(sent):
    tell_totals(CLUSTER, {**TOTALS, "bytes_spilled": None})
    assert [line for line in sent() if "spilled" in line] == []


@pytest.mark.parametrize(
    ("cluster", "totals"), [(CLUSTER, None), (Cluster("runs", "dag", "run"), TOTALS), (Cluster("dags", "dag"), TOTALS)]
)
def test_no_gauge_of_an_earlier_release_nor_of_one_cluster_among_many(sent, cluster, totals):
    tell_totals(cluster, totals)
    assert sent() == []


def test_end_of_work_tells_its_time_in_the_queue_in_milliseconds(sent):
    tell_end(URI, ENDED)
    assert sent() == [
        "airflow.ray.queued_duration,conn_id=warehouse,dag_id=sales,task_id=load:2500.000000|ms",
        "airflow.ray.queued_duration.warehouse,dag_id=sales,task_id=load:2500.000000|ms",
    ]


def test_end_of_work_that_never_began_tells_no_time(sent):
    tell_end(URI, {**ENDED, "started_at": None})
    assert sent() == []


def test_end_of_work_counts_the_inputs_that_were_made_again(sent):
    inputs = [{"source": source} for source in ("store", "checkpoint", "lineage", "checkpoint")]
    tell_end(URI, {**ENDED, "started_at": None, "inputs": inputs})
    assert sent() == [
        "airflow.ray.restores,conn_id=warehouse,dag_id=sales,task_id=load,source=checkpoint:2|c",
        "airflow.ray.restores.warehouse,dag_id=sales,task_id=load,source=checkpoint:2|c",
        "airflow.ray.restores,conn_id=warehouse,dag_id=sales,task_id=load,source=lineage:1|c",
        "airflow.ray.restores.warehouse,dag_id=sales,task_id=load,source=lineage:1|c",
    ]


def test_name_of_a_connection_is_one_level_of_the_name(sent):
    tell_totals(Cluster("team.a/ray(2)"), {"waiting": 1})
    assert sent() == [
        "airflow.ray.waiting,conn_id=team.a_ray_2_:1|g",
        "airflow.ray.waiting.team__a_ray_2_:1|g",
    ]


def test_without_legacy_names_there_are_tags_only(sent, monkeypatch):
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", "False")
    tell_totals(CLUSTER, {"waiting": 1})
    assert sent() == ["airflow.ray.waiting,conn_id=warehouse:1|g"]


class FakeLink:
    """A connection to a cluster that answers as a test says."""

    def __init__(self, cluster: Cluster, answer: Any) -> None:
        self.settings = type("Settings", (), {"cluster": cluster})
        self.answer = answer
        self.calls: list[Any] = []

    def call_same(self, *call: Any) -> Any:
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_totals_are_asked_for(sent):
    ask_totals(FakeLink(CLUSTER, {"totals": {"running": 1}}))
    assert sent()[0] == "airflow.ray.running,conn_id=warehouse:1|g"


def test_cluster_that_does_not_answer_fails_nobody(sent):
    ask_totals(FakeLink(CLUSTER, RayConnectionError("gone")))
    assert sent() == []


def test_one_cluster_among_many_is_not_asked():
    link = FakeLink(Cluster("runs", "dag", "run"), {"totals": TOTALS})
    ask_totals(link)
    assert link.calls == []


@pytest.mark.parametrize("process", ["TriggerCommsDecoder", "CommsDecoder"])
def test_each_process_tells_the_statistics_that_it_has_begun(process, monkeypatch):
    from airflow.sdk.execution_time import task_runner

    pytest.importorskip("airflow.observability.stats", reason="before Airflow 3.2 there is one kind")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", type(process, (), {})(), raising=False)
    of_sdk = _compat.stats().gauge.__module__.startswith("airflow.sdk")
    assert of_sdk == (process == "CommsDecoder")


@pytest.mark.slow
def test_importing_it_loads_no_client_of_metrics():
    script = (
        "import sys, airflow_ray.client.metrics\n"
        "heavy = ('statsd', 'opentelemetry.sdk.metrics', 'ray', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "[]"
