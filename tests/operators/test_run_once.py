"""What a callable has done is not done again where Airflow lost sight of it, and is where somebody wants it again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from airflow.cli.cli_parser import get_parser
from airflow.cli.commands.task_command import task_test
from airflow.sdk.execution_time import task_runner

from airflow_ray.operators.python import RayPythonOperator
from tests.dag_runs import new_dag, run_dag

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def dag(head):
    return new_dag(params={})


@pytest.fixture
def starts(tmp_path):
    """The file in which each run of the callable leaves a line."""
    return tmp_path / "starts"


def work(starts):
    with open(starts, "a") as file:
        file.write("started\n")
    print("working")
    return "made"


def task_of(dag, starts, **arguments):
    with dag:
        return RayPythonOperator(
            task_id="work",
            python_callable=work,
            op_args=[str(starts)],
            result="value",
            retries=1,
            retry_delay=timedelta(0),
            **arguments,
        )


class FailsOnce:
    """Called the first time, it raises."""

    def __init__(self):
        self.calls = 0

    def __call__(self, context, result=None):
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("the first time")


def test_retry_after_a_failing_post_execute_takes_what_was_made(dag, starts, caplog):
    task_of(dag, starts, post_execute=(post_execute := FailsOnce()))
    run = run_dag(dag)
    assert (run.state, run.xcom("work"), post_execute.calls) == ("success", "made", 2)
    assert starts.read_text() == "started\n"
    assert "was made already, by an earlier try" in caplog.text


def test_retry_after_a_failing_push_of_the_xcom_takes_what_was_made(dag, starts, monkeypatch):
    push, failed = task_runner._xcom_push, []

    def push_later(ti, key, value, **more):
        if key == "return_value" and not failed:
            failed.append(key)
            raise RuntimeError("the first time")
        push(ti, key, value, **more)

    monkeypatch.setattr(task_runner, "_xcom_push", push_later)
    task_of(dag, starts)
    run = run_dag(dag)
    assert (run.state, run.xcom("work"), failed) == ("success", "made", ["return_value"])
    assert starts.read_text() == "started\n"


@pytest.mark.slow
def test_retry_of_a_deferred_task_takes_what_was_made(dag, starts):
    task_of(dag, starts, post_execute=FailsOnce(), deferrable=True)
    run = run_dag(dag)
    assert (run.state, run.xcom("work"), starts.read_text()) == ("success", "made", "started\n")


def test_task_that_is_not_durable_runs_again_in_a_retry(dag, starts):
    task_of(dag, starts, post_execute=FailsOnce(), durable=False)
    assert run_dag(dag).state == "success"
    assert starts.read_text() == "started\n" * 2


def test_dag_that_is_tested_twice_under_one_run_id_runs_twice(dag, starts):
    task_of(dag, starts)
    date = datetime(2026, 2, 1, tzinfo=timezone.utc)
    runs = [run_dag(dag, logical_date=date, run_after=date) for _ in range(2)]
    assert (runs[0].run_id, starts.read_text()) == (runs[1].run_id, "started\n" * 2)


def test_task_that_is_tested_twice_in_a_run_whose_retry_made_it_runs_twice(dag, starts, monkeypatch):
    # What the command sets stays in its process.
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "")
    task_of(dag, starts, post_execute=FailsOnce())
    run_id = run_dag(dag).run_id
    for _ in range(2):
        task_test(get_parser().parse_args(["tasks", "test", dag.dag_id, "work", run_id]), dag=dag)
    assert starts.read_text() == "started\n" * 3
