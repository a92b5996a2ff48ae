"""What stands in for Airflow where an operator runs without it."""

from __future__ import annotations

import uuid
from typing import Any


class TaskInstance:
    """As much of a task instance as the operators ask of it."""

    dag_id, map_index, max_tries = "benchmark", -1, 0

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.run_id = uuid.uuid4().hex

    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""
