"""The plugin: what it brings, how it is turned off, and what it costs before the page is opened."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_ray.hooks.ray import RayHook
from airflow_ray.ui.plugin import RayPagePlugin
from tests.conftest import new_uri


def output_of(script: str, **environment: str) -> str:
    command = [sys.executable, "-c", script]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_page_is_shown_in_the_navigation_on_each_run_and_on_each_task_instance():
    hrefs = {each["destination"]: each["href"] for each in RayPagePlugin.external_views}
    assert hrefs == {
        "nav": "/airflow_ray/",
        "dag_run": "/airflow_ray/dags/{DAG_ID}/runs/{RUN_ID}",
        "task_instance": "/airflow_ray/dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}/{MAP_INDEX}",
    }


@pytest.mark.slow
def test_page_is_below_the_path_of_airflow():
    script = "from airflow_ray.ui.plugin import RayPagePlugin; print(RayPagePlugin.external_views[0]['href'])"
    printed = output_of(script, AIRFLOW__API__BASE_URL="https://example.com/team/airflow/")
    assert printed.splitlines()[-1] == "/team/airflow/airflow_ray/"


@pytest.mark.slow
def test_page_is_turned_off_by_the_configuration():
    script = (
        "from airflow_ray.ui.plugin import RayPagePlugin\n"
        "print(RayPagePlugin.fastapi_apps, RayPagePlugin.external_views)\n"
    )
    assert output_of(script, AIRFLOW__AIRFLOW_RAY__PAGE="False").splitlines()[-1] == "[] []"


@pytest.mark.slow
def test_nothing_is_imported_before_the_page_is_opened():
    script = (
        "import airflow.plugins_manager, airflow.configuration, sys, asyncio\n"
        "before = set(sys.modules)\n"
        "import airflow_ray.ui.plugin\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('airflow_ray')))\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('airflow_ray.client')))\n"
    )
    assert output_of(script).splitlines()[-2:] == ["[]", "[]"]


@pytest.mark.slow
def test_ray_is_not_imported_for_the_page(head):
    with RayHook("ray_gateway").connect() as hook:
        hook.put(1, uri=new_uri("ray_gateway"))
    script = (
        "import asyncio, sys\n"
        "import airflow_ray.ui.app\n"
        "from airflow_ray.ui.asking import ask\n"
        "answer = asyncio.run(ask('ray_gateway', lambda client: client.survey()))\n"
        "print(answer.problem, answer.value and answer.value['nodes'], 'ray' in sys.modules)\n"
    )
    assert output_of(script).splitlines()[-1] == "None 1 False"
