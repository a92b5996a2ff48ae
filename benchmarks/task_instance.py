"""What stands in for Airflow where an operator runs without it."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any


class DagRun:
    """As much of a DAG run as the operators ask of it."""

    start_date, run_after, clear_number = None, None, 0
    conf: dict[str, Any] = {}


class TaskInstance:
    """As much of a task instance as the operators ask of it."""

    dag_id, map_index, try_number, max_tries = "benchmark", -1, 1, 0

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.run_id = uuid.uuid4().hex
        self.start_date = datetime.now(timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""


def context_of(task_id: str) -> Any:
    """Return as much of the context of a task as the operators ask of it."""
    return {"ti": TaskInstance(task_id), "dag_run": DagRun()}
