"""Texts for Ray in a DAG that renders its templates to native objects."""

from __future__ import annotations

import os

import pytest
from airflow.sdk import task

from airflow_ray.operators.python import RayPythonOperator
from tests.dag_runs import new_dag, run_dag

pytestmark = pytest.mark.usefixtures("database")

TEXTS = {"THREADS": "4", "DEVICES": "0,1", "VERSION": "1.10", "HEX": "0x10", "NOTHING": "None", "LIST": "[1]"}


@pytest.fixture
def dag(head):
    dag = new_dag(params={"threads": 4, "texts": TEXTS})
    dag.render_template_as_native_obj = True
    return dag


def shown(number):
    return [number, {name: os.environ.get(name) for name in (*TEXTS, "RENDERED")}]


def test_texts_of_the_runtime_env_stay_texts_and_arguments_become_native(dag):
    with dag:
        given = {"python_callable": shown, "op_args": ["{{ params.threads }}"], "result": "value"}
        env_vars = {**TEXTS, "RENDERED": "{{ params.threads }}"}
        RayPythonOperator(
            task_id="each", runtime_env={"env_vars": env_vars}, num_cpus="{{ params.threads / 4 }}", **given
        )
        RayPythonOperator(task_id="all", runtime_env={"env_vars": "{{ params.texts }}"}, **given)
        listed = task(lambda: [{"env_vars": {"THREADS": "{{ 4 }}"}}], task_id="listed")()
        RayPythonOperator.partial(task_id="mapped", **given).expand(runtime_env=listed)
    run = run_dag(dag)
    assert run.xcom("each") == [4, {**TEXTS, "RENDERED": "4"}]
    assert run.xcom("all") == [4, {**TEXTS, "RENDERED": None}]
    assert run.xcom("mapped", map_index=0)[1]["THREADS"] == "{{ 4 }}"
