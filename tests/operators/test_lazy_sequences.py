"""What Airflow passes for mapped tasks, and for ``.map``, ``.zip`` and ``.concat``, as arguments of Ray tasks."""

from __future__ import annotations

import pytest
from airflow.sdk import task

from airflow_ray.decorators import ray_task
from airflow_ray.operators.python import RayPythonOperator
from tests.dag_runs import new_dag, run_dag

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def dag(head):
    return new_dag(params={"names": ["a", "b"]})


@ray_task(result="value")
def use(x):
    return x


@task
def numbers():
    return [1, 2, 3]


@task
def same(x):
    return x


def double(x):
    return 2 * x


def as_lists(value):
    """Return what is a tuple as a list: JSON, which the database gets, knows no tuples."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_lazy_sequences_arrive_as_lists(dag):
    """All in one run, which takes most of the time."""

    def shapes(given):
        return as_lists({key: [type(value).__name__, value] for key, value in given.items()})

    with dag:
        listed, mapped = numbers(), same.expand(x=[4, 5])
        on_ray = ray_task(double, task_id="on_ray").expand(x=[1, 2])
        given = {
            "map": listed.map(double),
            "map twice": listed.map(double).map(str),
            "zip": listed.zip(mapped),
            "zip with filler": listed.zip(mapped, fillvalue=0),
            "concat": listed.concat(mapped),
            "map of concat": listed.concat(mapped).map(double),
            "mapped": mapped,
            "map of mapped": mapped.map(double),
            "concat of ray tasks": on_ray.concat(on_ray),
            "deep": [{"a": (listed.map(double), [mapped.map(double)])}],
            "of map": listed.map(lambda x: {x} and {"x": (x,)}),
        }
        RayPythonOperator(task_id="use", python_callable=shapes, op_args=[given], result="value")
        use.override(task_id="whole")(listed.map(double))
        RayPythonOperator(task_id="all", python_callable=max, op_args=listed.map(double), result="value")
    run = run_dag(dag)
    assert (run.xcom("whole"), run.xcom("all")) == ([2, 4, 6], 6)
    assert run.xcom("use") == {
        "map": ["list", [2, 4, 6]],
        "map twice": ["list", ["2", "4", "6"]],
        "zip": ["list", [[1, 4], [2, 5]]],
        "zip with filler": ["list", [[1, 4], [2, 5], [3, 0]]],
        "concat": ["list", [1, 2, 3, 4, 5]],
        "map of concat": ["list", [2, 4, 6, 8, 10]],
        "mapped": ["list", [4, 5]],
        "map of mapped": ["list", [8, 10]],
        "concat of ray tasks": ["list", [2, 4, 2, 4]],
        "deep": ["list", [{"a": [[2, 4, 6], [[8, 10]]]}]],
        "of map": ["list", [{"x": [1]}, {"x": [2]}, {"x": [3]}]],
    }


def test_list_of_a_ray_task_is_mapped_item_by_item(dag):
    with dag:
        use(ray_task(lambda: [1, 2, 3], task_id="listed")().map(double))
    assert run_dag(dag).xcom("use") == [2, 4, 6]


def test_natively_rendered_params_and_enums_of_airflow_arrive_as_plain_python(head):
    dag = new_dag(params={"names": ["a", "b"]})
    dag.render_template_as_native_obj = True

    def shapes(params, run_type):
        return [type(params).__name__, params, type(run_type).__name__, run_type]

    with dag:
        RayPythonOperator(
            task_id="use",
            python_callable=shapes,
            op_args=["{{ params }}", "{{ dag_run.run_type }}"],
            result="value",
        )
    assert run_dag(dag).xcom("use") == ["dict", {"names": ["a", "b"]}, "str", "manual"]
