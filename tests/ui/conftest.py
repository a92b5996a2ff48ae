"""The page in an application like Airflow's, and people with different roles who open it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.utils.log.log_reader import TaskLogReader
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.ui import asking, clusters
from airflow_ray.ui.plugin import URL_PREFIX, PageApp
from tests.dag_runs import DagRunResult, new_dag, run_dag

SERVER = "http://airflow.example.com"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let a page wait for who is only slow: the machine of the tests may be busy."""
    for module in (asking, clusters):
        monkeypatch.setattr(module, "SECONDS", 60.0)


@pytest.fixture(scope="module")
def auth_manager():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.ui.managers.TellingApartAuthManager")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of the tests " * 8)
        yield create_auth_manager()


@pytest.fixture(scope="module")
def page() -> FastAPI:
    app = FastAPI()
    app.mount(URL_PREFIX, PageApp())
    return app


@pytest.fixture
def browser_of(page, auth_manager) -> Callable[..., TestClient]:
    """Return a browser in which somebody of a role has logged in to Airflow."""

    def browser(role: str | None, name: str = "somebody") -> TestClient:
        cookies = {}
        if role is not None:
            cookies["_token"] = auth_manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))
        return TestClient(page, base_url=SERVER, cookies=cookies, follow_redirects=False)

    return browser


@pytest.fixture
def user(browser_of) -> TestClient:
    """A browser of somebody who may edit DAGs."""
    return browser_of("user")


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"a": range(rows), "b": 1.0})


@pytest.fixture(scope="module")
def dag(head):
    with new_dag({}) as dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[1000])
        RayPythonOperator(task_id="count", python_callable=len, op_args=[made.output])
    return dag


@pytest.fixture(scope="module")
def shared_run(dag, database):
    """A run of which no test releases anything."""
    return run_dag(dag)


@pytest.fixture
def log(mocker):
    """The log that Airflow has of each task instance: a DAG run in this process leaves none."""
    entries = [SimpleNamespace(event=f"line <{number}>") for number in range(300)]
    mocker.patch.object(TaskLogReader, "read_log_chunks", side_effect=lambda *_: (iter(entries), {}))


def run_address(run: DagRunResult, dag_id: str) -> str:
    return f"{URL_PREFIX}/dags/{dag_id}/runs/{quote(run.run_id, safe='')}"
