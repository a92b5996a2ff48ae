"""The Ray page in Airflow: how soon a run with many objects is there, and what the API server pays before that."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import Result, at_most, noise
from benchmarks.servers import GATEWAY, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

DAG_ID, RUN_ID, TASK_ID = "benchmark", "run", "task"
MILLISECONDS = 300.0
# Of a process of some 300 MB, that differs by as much from one start to the next.
MEGABYTES = 2.0

OPEN_PAGE = """
import json, sys, time
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient
from airflow_ray.ui.plugin import URL_PREFIX, PageApp

token = create_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role="user"))
app = FastAPI()
app.mount(URL_PREFIX, PageApp())
address, objects, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seconds = []
with TestClient(app, cookies={"_token": token}) as browser:
    for _ in range(repeats + 1):
        started = time.perf_counter()
        text = browser.get(URL_PREFIX + address).text
        seconds.append(time.perf_counter() - started)
        assert text.count("SUCCEEDED") == objects, text[:2000]
print(json.dumps(seconds))
"""

START_SERVER = """
import json, sys
import psutil
from airflow.api_fastapi.app import create_app
create_app()
assert "airflow_ray.ui.plugin" in sys.modules, "this package is not installed with its entry points"
print(json.dumps([psutil.Process().memory_info().rss / 1e6, sorted(sys.modules)]))
"""


def run(objects: int, repeats: int) -> Iterator[Result]:
    """Yield the time of the first and of a further opening, and what the plugin adds to an API server by being there.

    :param objects: how many the run has.
    """
    with tempfile.TemporaryDirectory() as home, ray_head(with_gateway=True):
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        _output([sys.executable, "-m", "airflow", "db", "migrate"], environment)
        _fill(Path(home, "airflow.db"), objects)
        arguments = [f"/dags/{DAG_ID}/runs/{RUN_ID}", str(objects), str(repeats)]
        told = _output([sys.executable, "-c", OPEN_PAGE, *arguments], environment)
        first, *further = (1000 * seconds for seconds in json.loads(told.splitlines()[-1]))
        yield Result(f"page: first opened, {objects} objects", first, "ms")
        name = f"page: run with {objects} objects"
        target = at_most(MILLISECONDS)
        yield Result(name, statistics.median(further), "ms", noise=noise(further), target=target)
        yield from _server(environment, repeats)


def _server(environment: dict[str, str], repeats: int) -> Iterator[Result]:
    started: dict[str, list[tuple[float, list[str]]]] = {"True": [], "False": []}
    for _ in range(repeats):
        for page, seen in started.items():
            told = _output([sys.executable, "-c", START_SERVER], {**environment, "AIRFLOW__AIRFLOW_RAY__PAGE": page})
            seen.append(tuple(json.loads(told.splitlines()[-1])))
    memory = {page: statistics.median(each[0] for each in seen) for page, seen in started.items()}
    added = max(0.0, memory["True"] - memory["False"])
    yield Result("page: memory of an API server, by the plugin", added, "MB", target=at_most(MEGABYTES))
    more = set(started["True"][0][1]) - set(started["False"][0][1])
    yield Result("page: imports of an API server, by the plugin", len(more), "modules", target=at_most(0))


def _fill(database: Path, objects: int) -> None:
    """Put objects into the cluster, and into Airflow's database what their tasks would have left there."""
    with RayHook(GATEWAY).connect() as hook:
        for index in range(objects):
            hook.put([index], uri=ObjectURI(GATEWAY, DAG_ID, RUN_ID, TASK_ID, index))
    fields = json.dumps({"ray_conn_id": GATEWAY, "op_args": "[1000]", "op_kwargs": "{}"})
    rows = [(DAG_ID, RUN_ID, TASK_ID, index, fields) for index in range(objects)]
    columns = "dag_id, run_id, task_id, map_index, rendered_fields"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(f"insert into rendered_task_instance_fields ({columns}) values (?, ?, ?, ?, ?)", rows)


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
