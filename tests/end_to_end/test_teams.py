"""Airflow as teams run it: PostgreSQL, two schedulers, DAG files from Git and from zip files, backfills, many runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ray_head import RayHead
from tools.postgres import PostgresServer, missing
from tools.standalone import StandaloneAirflow

DAGS = Path(__file__).parent.parent / "dags_of_teams"
WAITING = Path(__file__).parent.parent / "dags" / "waiting.py"
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
with_git = pytest.mark.skipif(
    shutil.which("git") is None or find_spec("airflow.providers.git") is None,
    reason="Git or Airflow's provider for it is not installed",
)
ACCOUNT = "-c", "user.name=A Team", "-c", "user.email=team@example.com"


class Repository:
    """A repository of Git with one DAG file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        self._git("add", name)
        self._git(*ACCOUNT, "commit", "--quiet", "--message=Change the DAG")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the DAG files, one of them zipped with its package."""
    folder = tmp_path_factory.mktemp("teams")
    (folder / "dags").mkdir()
    shutil.copy(WAITING, folder / "dags")
    shutil.copy(DAGS / "daily.py", folder / "dags")
    shutil.copy(DAGS / "changing.py", folder / "dags" / "in_folder.py")
    with zipfile.ZipFile(folder / "dags" / "of_another_team.zip", "w") as archive:
        for file in (DAGS / "zipped.py", *(DAGS / "zipped_helpers").glob("*.py")):
            archive.write(file, file.relative_to(DAGS))
    return folder


@pytest.fixture(scope="module")
def repository(folder: Path) -> Repository:
    repository = Repository(folder / "repository")
    repository.commit("in_git.py", (DAGS / "changing.py").read_text())
    return repository


@pytest.fixture(scope="module")
def bundles(request: pytest.FixtureRequest, folder: Path) -> list[dict[str, object]]:
    """What Airflow is told of where its DAG files come from."""
    local = {"name": "dags", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
    if not with_git.args[0]:
        repository = request.getfixturevalue("repository")
        place = {"repo_url": str(repository.folder), "tracking_ref": "main", "refresh_interval": 2}
        of_git = {"name": "git", "classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": place}
        return [local, of_git]
    return [local]


@pytest.fixture(scope="module")
def airflow(head: RayHead, folder: Path, bundles: list[dict[str, object]]) -> Iterator[StandaloneAirflow]:
    with PostgresServer() as server:
        environment = {
            **server.environment,
            "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "50",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            # Airflow takes no new version of a DAG within half a minute after the one before, and looks no sooner again
            # than a file is parsed anew.
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        }
        with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
            airflow.start_more("scheduler", "--skip-serve-logs")
            yield airflow


def result(airflow: StandaloneAirflow, dag_id: str, run_id: str, task_id: str) -> object:
    """Wait for the success of a run and return what a task of it has returned."""
    assert airflow.wait(dag_id, run_id, timeout=600) == "success"
    return airflow.xcoms(dag_id, run_id, task_id)["return_value"]


def changed(text: str) -> str:
    return text.replace('EDITION = "first"', 'EDITION = "second"')


@pytest.mark.slow
def test_modules_of_a_zip_file_need_not_be_on_the_cluster(airflow):
    assert result(airflow, "zipped", airflow.trigger("zipped"), "use") == 81


@pytest.mark.slow
def test_task_of_a_changed_file_takes_what_was_made_before_the_change(airflow, folder, tmp_path):
    run_id = airflow.trigger("in_folder", {"gate": str(tmp_path / "gate")})
    airflow.wait_for_task("in_folder", run_id, "wait", "running")
    file = folder / "dags" / "in_folder.py"
    file.write_text(changed(file.read_text()))
    (tmp_path / "gate").touch()
    assert result(airflow, "in_folder", run_id, "take") == ["first", "second"]


@pytest.mark.slow
@with_git
def test_run_of_a_dag_from_git_goes_on_with_the_version_that_it_began_with(airflow, repository, tmp_path):
    run_id = airflow.trigger("in_git", {"gate": str(tmp_path / "gate")})
    airflow.wait_for_task("in_git", run_id, "wait", "running")
    repository.commit("in_git.py", changed((DAGS / "changing.py").read_text()))
    airflow.wait_for_version("in_git", 2)
    (tmp_path / "gate").touch()
    assert result(airflow, "in_git", run_id, "take") == ["first", "first"]
    later = airflow.trigger("in_git", {"gate": str(tmp_path / "gate")})
    assert result(airflow, "in_git", later, "take") == ["second", "second"]


@pytest.mark.slow
def test_runs_of_a_backfill_each_take_their_own_objects(airflow):
    airflow.wait_for_dag("daily")
    days = [f"2020-02-0{day}" for day in range(1, 6)]
    command = ["backfill", "create", "--dag-id=daily", f"--from-date={days[0]}", f"--to-date={days[-1]}"]
    subprocess.run([sys.executable, "-m", "airflow", *command], env=airflow.environment, check=True, timeout=300)
    runs = [run_id for run_id in airflow.runs("daily") if run_id.startswith("backfill")]
    assert [result(airflow, "daily", run_id, "tell") for run_id in sorted(runs)] == days


@pytest.mark.slow
def test_two_schedulers_run_each_task_of_many_runs_once(airflow):
    assert outcomes(airflow, runs=5, tasks=6) == {("success", 1): 30}


@pytest.mark.only_faults
@pytest.mark.parametrize(
    ("runs", "tasks", "seconds"), [(1, 500, 0.0), (50, 1, 0.0), (1, 300, 12.0)], ids=["mapped", "runs", "deferred"]
)
def test_many_at_once_end_well_at_the_first_try(airflow, runs, tasks, seconds):
    assert outcomes(airflow, runs, tasks, seconds) == {("success", 1): runs * tasks}


def outcomes(airflow: StandaloneAirflow, runs: int, tasks: int, seconds: float = 0.0) -> Counter[tuple[str, int]]:
    """Run a DAG with mapped Ray tasks so often at once, and count the ends of those tasks after which try."""
    conf = {"number": tasks, "seconds": seconds}
    run_ids = [airflow.trigger("many_end_soon", conf) for _ in range(runs)]
    for run_id in run_ids:
        assert airflow.wait("many_end_soon", run_id, timeout=3000) == "success"
        assert airflow.xcoms("many_end_soon", run_id, "total")["return_value"] == tasks * (tasks - 1)
    instances = [each for run_id in run_ids for each in airflow.task_instances("many_end_soon", run_id)]
    return Counter((each["state"], each["try_number"]) for each in instances if each["task_id"] == "double")
