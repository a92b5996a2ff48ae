"""Whole DAG runs on a real Airflow, with a process for each task, and a cluster that is reached over the gateway."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from airflow_ray.client.connection.head_process import free_ports
from tests.dags.helpers.frame_kinds import KINDS, expected
from tests.modin import needs_modin, with_reason
from tools.example import XCOM_BACKEND, write_higgs_file
from tools.gallery import RUNS
from tools.ray_cluster import RayHead
from tools.standalone import StandaloneAirflow

ROOT = Path(__file__).parent.parent.parent


def first_python_block(page: Path) -> str:
    return page.read_text().partition("```python\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder, which searches and the page on checkpoints write to."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[RayHead]:
    # One whose processes can import Airflow with all its providers, as a callable that skips its task does. On a busy
    # machine the proxy of Ray Serve takes longer to start than the 15 s that it is given.
    head = RayHead(environment={"HOME": str(folder), "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "100"})
    yield head
    head.stop()


@pytest.fixture(scope="module")
def airflow(folder: Path, cluster: RayHead, airflow_database: dict[str, str]) -> Iterator[StandaloneAirflow]:
    """Airflow with the examples and the test DAGs in one DAG folder."""
    dags = folder / "dags"
    shutil.copytree(ROOT / "tests" / "dags", dags)
    shutil.copytree(ROOT / "examples", dags, dirs_exist_ok=True)
    (dags / "of_readme.py").write_text(first_python_block(ROOT / "README.md"))
    for page in ("how_to/waiting", "tutorials/tuning", "tutorials/data"):
        (dags / f"of_{Path(page).name}.py").write_text(first_python_block(ROOT / "docs" / f"{page}.md"))
    environment = {
        "AIRFLOW_CONN_RAY_DEFAULT": cluster.gateway_uri,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "HOME": str(folder),
        # More tasks at a time would only take the processors from each other.
        "AIRFLOW__CORE__PARALLELISM": "2",
        **XCOM_BACKEND,
        **airflow_database,
    }
    with StandaloneAirflow(folder / "home", dags, environment) as airflow:
        yield airflow


# The classic one for the breast cancer data is run by ``make demo``, the one for checkpoints by ``make demo-recovery``.
EXAMPLES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "xgboost_tune_breast_cancer": ("report", lambda accuracy: accuracy >= 0.9),
    "xgboost_tune_breast_cancer_taskflow": ("report", lambda accuracy: accuracy >= 0.9),
    "mlflow_tune_breast_cancer": ("report", lambda accuracy: accuracy >= 0.9),
    "ray_train_xgboost": ("evaluate", lambda accuracy: accuracy >= 0.9),
    "higgs_xgboost_modin": ("validate", lambda quality: quality["auc"] >= 0.75),
    "xgboost_breast_cancer_taskflow": ("report", lambda accuracy: accuracy >= 0.9),
    "deploy_model": ("ask", lambda share_right: share_right >= 0.9),
    "local_to_ray_and_back": ("load", lambda slope: 2.5 <= slope <= 3.5),
    "pandas_fan_out": ("join", lambda table: 1.5 <= table["wait"]["skew"] <= 2.5),
}
# XGBoost in taskflow, and plain tasks and Ray tasks in turn; ``make demo`` runs the first one with classic operators.
OFTEN = ("local_to_ray_and_back",)
# Those that come to the same each time, and compute here with the parameters that they have by default.
SAME = ("xgboost_breast_cancer_taskflow", "deploy_model", "local_to_ray_and_back")


each_example = pytest.mark.parametrize(
    "dag_id",
    [
        pytest.param(dag_id, marks=[needs_modin] * ("modin" in dag_id) + [pytest.mark.slow] * (dag_id not in OFTEN))
        for dag_id in EXAMPLES
    ],
)


@pytest.fixture(scope="module")
def example_runs(
    airflow: StandaloneAirflow, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, str]:
    """The ids of runs of the examples, which go on side by side: most of a task's time is spent on waiting."""
    folder = tmp_path_factory.mktemp("examples")
    conf = {
        "deploy_model": {"port": free_ports(1)[0]},
        "xgboost_tune_breast_cancer": {"num_samples": 4},
        "xgboost_tune_breast_cancer_taskflow": {"num_samples": 4},
        "ray_train_xgboost": {"storage_path": str(folder)},
        "higgs_xgboost_modin": {"path": str(write_higgs_file(folder / "higgs.csv.gz", 5_000)), "num_boost_round": 10},
        "local_to_ray_and_back": {"path": str(folder / "predicted.csv")},
        "pandas_fan_out": {"rows": 10_000},
    }
    items = [item for item in request.session.items if "example_runs" in getattr(item, "fixturenames", ())]
    chosen = [item.callspec.params["dag_id"] for item in items if isinstance(item, pytest.Function)]
    return {dag_id: airflow.trigger(dag_id, conf.get(dag_id)) for dag_id in chosen}


# The first of them to be asked for waits for nearly all of them.
@pytest.mark.timeout(1800)
@each_example
def test_example_comes_to_a_result_that_is_right(airflow, example_runs, dag_id):
    run_id = example_runs[dag_id]
    assert airflow.wait(dag_id, run_id, timeout=1700) == "success"
    task_id, is_right = EXAMPLES[dag_id]
    returned = airflow.xcoms(dag_id, run_id, task_id)["return_value"]
    assert is_right(returned)
    if dag_id in SAME:
        tasks = json.loads(RUNS.read_text())[dag_id]["tasks"]
        assert [each["returned"] for each in tasks if each["task"] == task_id] == [pytest.approx(returned)]


def test_dag_of_the_readme_runs(airflow):
    run_id = airflow.trigger("sums")
    assert airflow.wait("sums", run_id, timeout=500) == "success"
    assert airflow.xcoms("sums", run_id, "total")["return_value"] == 499_999_500_000


@pytest.mark.slow
def test_dag_that_is_scheduled_by_an_asset_takes_its_object(airflow):
    run_id = airflow.trigger("asset_producer", {"rows": 1_000})
    assert airflow.wait("asset_producer", run_id, timeout=500) == "success"
    run_id = airflow.first_run("asset_consumer", timeout=500)
    assert airflow.wait("asset_consumer", run_id, timeout=500) == "success"
    assert 169 <= airflow.xcoms("asset_consumer", run_id, "average")["return_value"] <= 171


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", ["patient", "search", "sales"])
def test_dag_of_the_page_on_waiting_tuning_or_data_runs(airflow, dag_id):
    run_id = airflow.trigger(dag_id)
    assert airflow.wait(dag_id, run_id, timeout=500) == "success"


@pytest.fixture(scope="module")
def seen(airflow: StandaloneAirflow) -> dict[str, Any]:
    """What a plain task has seen of tables that came from another plain task through a Ray task."""
    run_id = airflow.trigger("handed_over")
    assert airflow.wait("handed_over", run_id, timeout=500) == "success"
    found: dict[str, Any] = airflow.xcoms("handed_over", run_id, "load")["return_value"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", with_reason(kind for kind in KINDS if kind != "matrix"))
def test_table_goes_from_a_plain_task_to_ray_and_back(seen, kind):
    # Through the gateway a frame that needs a cluster comes as one of pandas.
    assert seen[kind] == expected("pandas" if kind in ("modin", "dataset") else kind)


@pytest.mark.slow
def test_example_of_the_hooks_page_runs(airflow):
    script = first_python_block(ROOT / "docs" / "how_to" / "hook.md")
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=airflow.environment, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[1, 2, 3]"


@pytest.mark.slow
def test_example_of_the_checkpoints_page_runs(airflow):
    page = (ROOT / "docs" / "tutorials" / "checkpoints.md").read_text()
    script = page.split("```python\n")[2].partition("```")[0]
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=airflow.environment, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1].endswith("{'answer': 42}")


def test_helper_modules_of_the_dag_folder_need_not_be_on_the_cluster(airflow):
    run_id = airflow.trigger("with_helpers")
    assert airflow.wait("with_helpers", run_id, timeout=500) == "success"
    assert airflow.xcoms("with_helpers", run_id, "use")["return_value"] == [1]


def test_failure_shows_the_users_lines_in_the_task_log(airflow):
    run_id = airflow.trigger("failing_task")
    assert airflow.wait("failing_task", run_id, timeout=500) == "failed"
    log = airflow.log("failing_task", run_id, "fail")
    assert "RayTaskFailedError: The callable raised ValueError on the Ray cluster: of the user" in log
    assert 'raise ValueError("of the user")' in log


@pytest.mark.slow
def test_skip_exception_of_airflow_skips_the_task(airflow):
    run_id = airflow.trigger("skipping_task")
    airflow.wait("skipping_task", run_id, timeout=500)
    assert [instance["state"] for instance in airflow.task_instances("skipping_task", run_id)] == ["skipped"]


@pytest.mark.slow
def test_task_that_a_person_marks_failed_stops_on_the_cluster(airflow, tmp_path):
    pid_file = tmp_path / "pid"
    run_id = airflow.trigger("long_task", {"pid_file": str(pid_file)})
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.1)
    pid = int(pid_file.read_text())
    airflow.set_state("long_task", run_id, "sleep", "failed")
    _, alive = psutil.wait_procs([psutil.Process(pid)], 300)
    assert alive == []


@pytest.mark.slow
def test_what_a_task_asks_is_answered_while_a_click_waits_for_the_database(airflow):
    if not airflow.database.startswith("sqlite"):
        pytest.skip("only SQLite lets one writer in at a time")
    execution_url = airflow.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=300)) as database, ThreadPoolExecutor() as pool:
        database.execute("BEGIN IMMEDIATE")
        try:
            click = pool.submit(airflow.trigger, "with_helpers")
            # The server of the UI answers nobody while the click waits, or not to the end.
            with suppress(requests.RequestException):
                while True:
                    requests.get(f"{airflow.url}/api/v2/version", timeout=2)
            assert requests.get(f"{execution_url}health", timeout=100).ok
        finally:
            database.rollback()
    assert airflow.wait("with_helpers", click.result(), timeout=500) == "success"
