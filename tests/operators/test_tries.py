"""What tells a retry of a task from a task that was cleared, or whose run was made again."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.tries import generation, task_try
from tests.dag_runs import context_of

DAY, NEXT_DAY = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2))


def task_of(retries=2, **arguments):
    return RayPythonOperator(task_id="task", python_callable=print, retries=retries, **arguments)


def told(task=None, own_name="own", **context):
    context = context_of("dag", **{"start_date": DAY, "try_number": 2, "max_tries": 2, **context})
    return generation(context), task_try(task or task_of(), context, own_name)


def test_retry_has_a_higher_number_and_all_else_in_common():
    first, second = told(try_number=1, own_name="first"), told(own_name="second")
    assert second == (first[0], {**first[1], "number": 2})


@pytest.mark.parametrize(
    "other",
    [
        {"max_tries": 4},
        {"start_date": NEXT_DAY},
        {"task": task_of(retries=1)},
        {"clear_number": 1},
        {"clear_number": None},
    ],
    ids=["cleared", "run made again", "cleared with fewer retries", "other task cleared", "not told"],
)
def test_other_than_a_retry_is_told(other):
    assert told(**other) != told()


def test_task_that_is_not_durable_has_nothing_in_common():
    task = task_of(durable=False)
    assert told(task, own_name="first") != told(task, own_name="second")


def test_task_that_is_tried_out_has_nothing_in_common(monkeypatch):
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    assert told(own_name="first") != told(own_name="second")


class Client:
    """Knows of one piece of work, and notes what is submitted in its place."""

    def __init__(self, record):
        self.record = record

    def plain(self, arguments):
        return arguments

    def describe(self, uri):
        return self.record

    def submit(self, function, *args, **options):
        self.submitted = options


def test_retry_after_one_that_ran_out_of_memory_reserves_the_next_amount():
    task = task_of(memory=["4", "8"])
    _, first = told(task, try_number=1)
    task.client = Client({"task_try": first, "memory": 4, "error": {"kind": "out_of_memory"}})
    context = context_of("dag", start_date=DAY, try_number=2, max_tries=2)
    task._submit(task._uri_of(context), context)
    assert task.client.submitted["memory"] == 8
