"""The line at the end of a task that tells what it has used, with a real cluster."""

from __future__ import annotations

import logging
import re
import uuid

import numpy as np
import pytest

from airflow_ray.cli.output import record_rows
from airflow_ray.exceptions import RayTaskFailedError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.log_lines import show_used
from airflow_ray.operators.python import RayPythonOperator
from tests.dag_runs import context_of

MiB = 1024**2
LINE = re.compile(
    r"It used at most (?P<used>[\d.]+) MiB of the 1 GiB of memory that it had reserved, "
    r"and [\d.]+ s of CPU in [\d.]+ s on 1 CPU(; it read \S+ \w+ and wrote \S+ \w+ in the object store)?\."
)


@pytest.fixture
def used(head, monkeypatch):
    """Runs a callable as a task, and has the line of it."""
    dag_id = uuid.uuid4().hex
    log = logging.getLogger("task")

    def run(task_id, function, *args):
        task = RayPythonOperator(
            task_id=task_id,
            python_callable=function,
            op_args=list(args),
            ray_conn_id="ray_gateway",
            memory=1024 * MiB,
            max_retries=0,
        )
        context = context_of(dag_id)
        context["ti"].task_id = task_id
        lines = []
        monkeypatch.setattr(log, "info", lambda text, *args: lines.append(text))
        monkeypatch.setattr(base, "show_used", lambda _, record: show_used(log, record))
        try:
            return task.execute(context)
        finally:
            (line,) = lines
            run.line = LINE.fullmatch(line)

    return run


def _holds(size):
    return np.ones(size, np.uint8)


def _sum(data):
    return int(data.sum())


def _holds_and_fails(size):
    data = _holds(size)
    raise ValueError(data.size)


def test_task_tells_its_own_peak_and_what_it_read_and_wrote(used):
    uri = used("large", _holds, 300 * MiB)
    large = float(used.line["used"])
    used("small", _sum, uri)
    assert large > 300
    assert "it read 315 MB" in used.line[0]
    # The input lies in the object store.
    assert float(used.line["used"]) < 300
    with RayHook("ray_gateway").connect() as hook:
        record = hook.describe(uri)
    assert {row["field"]: row["value"] for row in record_rows(ObjectURI.parse(uri), record)}["used"].startswith(
        "It used"
    )


def test_task_that_fails_tells_its_peak_too(used):
    with pytest.raises(RayTaskFailedError):
        used("fails", _holds_and_fails, 300 * MiB)
    assert float(used.line["used"]) > 300
