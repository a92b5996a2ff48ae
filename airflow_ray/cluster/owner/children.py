"""Which work the tasks and actors are of that it has started, itself or through others."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from airflow_ray.cluster.owner.bell import Bell

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records
    from airflow_ray.cluster.protocol import ChildUsed

# How long what a child writes waits to be told whose child that is: both are on their way at the same time.
KNOWN_SECONDS = 10.0
# About 5 MB. A task writes soon after it was submitted, so those noted or asked for last are the ones that matter.
MAX_TASKS = 20_000
MAX_LASTING = 20_000

# Record id and attempt.
Work = tuple[str, str]


class Children:
    """Knows work by the ids of its Ray tasks and actors, in hex.

    :param records: of the owner.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._tasks: OrderedDict[str, Work] = OrderedDict()
        # Of the work itself, and of actors: they write at any time.
        self._lasting: OrderedDict[str, Work] = OrderedDict()
        self._noted = Bell()

    def note_work(self, record: Record) -> None:
        """Take note of the task that is the work of a record."""
        if record.task_id is not None:
            self._keep((record.record_id, record.attempt), [], [record.task_id])

    async def note(self, parent: str, tasks: list[str], actors: list[str]) -> None:
        """Take note of tasks and actors that the task or actor ``parent`` has started."""
        work = await self._work_of(parent)
        # Also of work that has ended: what they write then goes nowhere, and is not waited with.
        if work is not None:
            self._keep(work, tasks, actors)

    async def note_used(self, child: str, used: ChildUsed) -> bool:
        """Take note of what the process has used in which ``child`` runs; return whether its work is known."""
        record = await self.record_of(child)
        # What the callable itself uses is measured in another way.
        if record is not None and not record.finished and child != record.task_id:
            record.take_child_used(used)
        return record is not None

    async def record_of(self, child: str) -> Record | None:
        """Return the record of the work that ``child`` is of, if that is known soon."""
        work = await self._work_of(child)
        return None if work is None else self._records.current(*work)

    def _keep(self, work: Work, tasks: list[str], lasting: list[str]) -> None:
        for kept, names, most in ((self._tasks, tasks, MAX_TASKS), (self._lasting, lasting, MAX_LASTING)):
            kept.update(dict.fromkeys(names, work))
            while len(kept) > most:
                kept.popitem(last=False)
        self._noted.ring()

    async def _work_of(self, child: str) -> Work | None:
        await self._noted.wait_for(lambda: child in self._lasting or child in self._tasks, KNOWN_SECONDS)
        # A task that starts thousands of others is not to be forgotten for them.
        if child in self._tasks:
            self._tasks.move_to_end(child)
        return self._lasting.get(child) or self._tasks.get(child)
