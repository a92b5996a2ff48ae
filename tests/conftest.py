"""Fixtures: a real Ray head, connections to it, an Airflow home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.own_warnings import warnings_are_errors

# Both are read when the packages are first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-ray-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__CORE__FERNET_KEY"] = "bm90IGEgc2VjcmV0OiBhIGtleSBmb3IgdGVzdHMgMTI="
os.environ["RAY_AUTH_MODE"] = "disabled"
# Of all heads that tests start.
os.environ.update(
    # Ray lets its workers yield to all other processes: on this machine, where Airflow and heads have the same few
    # processors, an owner would not answer for minutes.
    RAY_worker_niceness="0",
    # Where all examples run at once, a training waits for longer than the 100 seconds of xgboost-ray.
    RXGB_PLACEMENT_GROUP_TIMEOUT_S="600",
)
# In the processes that tests start, of Airflow and of Ray, as pyproject.toml has it for this one.
os.environ["PYTHONWARNINGS"] = warnings_are_errors()

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadFileScheduling

from airflow_ray.client import watcher
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.proxy import FaultyProxy
from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.s3_server import S3Server

# Whole files go to the processes that run them: a long one that began late would keep one of them alone at the end.
LONGEST_FIRST = (
    "faults/test_links.py",
    "faults/test_airflow.py",
    "end_to_end/test_teams.py",
    "cluster/owner/test_random_work.py",
    "hooks/ray_hook/test_random_work.py",
    "faults/test_killed.py",
    "faults/test_stopped.py",
    "end_to_end/test_dags.py",
    "end_to_end/test_deferral.py",
    "kubernetes/test_runs.py",
    "end_to_end/test_survival.py",
    "end_to_end/test_ray_examples.py",
    "end_to_end/test_page.py",
    "operators/test_tune.py",
    "end_to_end/test_two_hosts.py",
    "end_to_end/test_without_ray.py",
    "end_to_end/test_connection.py",
    "end_to_end/test_modin_training.py",
    "client/connection/test_local_head.py",
    "end_to_end/test_run_clusters.py",
    "hooks/ray_hook/test_frames.py",
    "client/checkpoints/test_recovery.py",
    "hooks/ray_hook/test_verbs.py",
    "client/connection/test_authentication.py",
    "test_triggers.py",
    "operators/test_job.py",
    "hooks/ray_hook/test_processes.py",
    "client/test_types_across_processes.py",
    "examples/test_notebook.py",
)

# Each run of the tests takes the same examples, so that none fails by luck. `make faults` takes others each time, of a
# seed that it prints.
hypothesis_settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, print_blob=True)
hypothesis_settings.register_profile("faults", derandomize=False, database=None, deadline=None, print_blob=True)
hypothesis_settings.load_profile("repeatable")


def examples(few: int, many: int, steps: int = 50) -> hypothesis_settings:
    """Return the settings of a test that takes so many examples, and in ``make faults`` so many."""
    return hypothesis_settings(
        max_examples=few if hypothesis_settings().derandomize else many,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
        # To tell which parts of an example matter takes longer than all else.
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )


# Files whose tests one process would run alone at the end, although they share nothing that takes long to make.
DEALT_OUT = (
    "tests/faults/test_killed.py",
    "tests/faults/test_stopped.py",
    "tests/hooks/ray_hook/test_random_work.py",
)


class FilesAndTests(LoadFileScheduling):  # type: ignore[misc]
    """Gives whole files to the processes that run them, and of some files one test after another."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(DEALT_OUT) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndTests:
    return FilesAndTests(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: position for position, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def head() -> Iterator[RayHead]:
    import ray
    from ray._private.client_mode_hook import disable_client_hook

    head = RayHead()
    os.environ["AIRFLOW_CONN_RAY_GATEWAY"] = head.gateway_uri
    os.environ["AIRFLOW_CONN_RAY_CLIENT"] = head.client_uri
    os.environ["AIRFLOW_CONN_RAY_DRIVER"] = head.driver_uri
    yield head
    # Ray ends a driver's process when the cluster goes away under it, and a test that failed may still hold a value.
    watcher.stop_all()
    with disable_client_hook():
        ray.shutdown()
    head.stop()


@pytest.fixture(scope="module", autouse=True)
def no_connection_of_another_file() -> Iterator[None]:
    """End those that linger: a process is a driver of one cluster only, and files follow each other in any order."""
    yield
    watcher.stop_all()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--airflow-database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="where Airflow keeps its database; with postgresql it runs 16 tasks at a time, as teams let it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("airflow_database") == "postgresql" and (reason := missing()):
        raise pytest.UsageError(reason)


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, str]]]:
    """Return a function that makes a new database, and returns the settings of an Airflow that is to have it."""
    if request.config.getoption("airflow_database") == "sqlite":
        # Airflow makes one in its home.
        yield dict
        return
    with PostgresServer() as server:
        yield lambda: {**server.new_database(), "AIRFLOW__CORE__PARALLELISM": "16"}


@pytest.fixture(scope="module")
def airflow_database(new_database: Callable[[], dict[str, str]]) -> dict[str, str]:
    """The settings of the Airflow that a file starts, to come after its own."""
    return new_database()


@pytest.fixture(scope="session")
def database(new_database: Callable[[], dict[str, str]]) -> None:
    """Airflow's database, for DAG runs in this process and in those that it starts."""
    if elsewhere := new_database():
        from airflow import settings

        os.environ.update(elsewhere)
        # Airflow has read where it is when it was imported.
        settings.configure_vars()
        settings.configure_orm()
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@pytest.fixture(
    scope="module",
    params=["ray_gateway", *(pytest.param(f"ray_{mode}", marks=pytest.mark.slow) for mode in ("client", "driver"))],
)
def connected_hook(request: pytest.FixtureRequest, head: RayHead) -> Iterator[RayHook]:
    with RayHook(request.param).connect() as hook:
        yield hook


@pytest.fixture
def hook(connected_hook: RayHook) -> RayHook:
    """A connected hook over each way in; in ``make test`` through the gateway."""
    return connected_hook


@pytest.fixture
def uri(hook: RayHook) -> ObjectURI:
    """An object URI that no other test uses."""
    return new_uri(hook.ray_conn_id)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the server, for which the AWS connection ``s3`` has the credentials."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection())
    return s3.new_bucket()


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3.port)
    yield proxy
    proxy.close()


def new_uri(conn_id: str, task_id: str = "task") -> ObjectURI:
    return ObjectURI(conn_id, "tests", f"manual__{uuid.uuid4()}", task_id)


def await_file(path: Path) -> str:
    """Return what is in a file as soon as somebody has written it."""
    while not path.exists() or not path.read_text():
        time.sleep(0.05)
    return path.read_text()
