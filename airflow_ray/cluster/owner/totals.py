"""What all records of an owner come to, counted as they change: nobody has to go through thousands of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.protocol import OwnerTotals


class Totals:
    """How much work waits and runs, and how many bytes are held."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[State, int]] = {}
        self._states: Counter[State] = Counter()
        self._bytes = 0
        self._spilled: int | None = None

    def count(self, record: Record, is_kept: bool) -> None:
        """Take a record for what it is now.

        :param is_kept: whether it is still one of the owner's.
        """
        state, held = self._counted.pop(record.attempt, (None, 0))
        if state is not None:
            self._states[state] -= 1
        self._bytes -= held
        if is_kept:
            state, held = self._counted[record.attempt] = record.state, record.held_bytes
            self._states[state] += 1
            self._bytes += held

    def note_spilled(self, spilled: int | None) -> None:
        """Take note of how much the nodes have written to disk since they started, where Ray tells."""
        if spilled is not None:
            self._spilled = spilled

    def told(self) -> OwnerTotals:
        """Return them as plain data."""
        return {
            "waiting": self._states[State.PENDING],
            "running": self._states[State.RUNNING],
            "bytes_held": self._bytes,
            "bytes_spilled": self._spilled,
        }
