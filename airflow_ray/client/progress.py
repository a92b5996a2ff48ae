"""News of work, as a follower gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_ray.cluster.protocol import State


@dataclass(frozen=True)
class Progress:
    """News of a piece of work.

    :param state: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED or LOST.
    :param lines: new log lines.
    :param skipped: how many lines before them were dropped because nobody read them in time.
    :param detail: what the work waits for, PENDING or inside.
    :param record: once the state is final, what :meth:`RayClient.describe` returns.
    :param value: once SUCCEEDED, the value of work with ``result="value"``.
    :param offset: number of log lines up to here.
    :param levels: a letter for the level of each of the lines, see :mod:`airflow_ray.cluster.log_levels`.
    """

    state: str
    lines: list[str]
    skipped: int = 0
    detail: str | None = None
    record: dict[str, Any] | None = None
    value: Any = None
    offset: int | None = None
    levels: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether there will be no further news."""
        return self.record is not None or self.state == State.LOST
