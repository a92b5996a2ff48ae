"""Looks whether work that goes on waits in vain, and has its record say so."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_ray.cluster.owner.stalls import Stalls, Work, who_holds
from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_ray.cluster.owner.cluster_look import Look
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records
    from airflow_ray.cluster.owner.stalls import Stall

LOOK_SECONDS = 8.0


class StallWatch:
    """One look at the cluster from time to time for all work, while some has not ended.

    :param records: of the owner.
    :param look: returns what is seen, or None where nothing is.
    """

    def __init__(self, records: Records, look: Callable[[], Awaitable[Look | None]]) -> None:
        self._records = records
        self._look = look
        self._stalls = Stalls()
        self._seen: Look | None = None
        self._watching: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look until no work is left."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def who_holds(self, names: set[str]) -> str:
        """Return in words who held resources of these names at the last look."""
        return "" if self._seen is None else who_holds(self._seen, self._works(), names)

    async def look(self) -> None:
        """Look once, and have each record say what its work waits for."""
        seen = await self._look()
        if seen is None:
            return
        self._seen, works = seen, self._works()
        stalls = self._stalls.judge(seen, works, time.monotonic())
        for work in works:
            async with self._records.lock(work.record_id):
                record = self._records.get(work.record_id)
                if record is None or record.state != State.RUNNING:
                    continue
                # It may have begun again meanwhile, and waits no more.
                if (record.task_id, record.starts) == (work.key, work.starts):
                    await self._tell(record, stalls.get(work.record_id))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._works():
                return
            # What one look does not tell, the next one may.
            with suppress(Exception):
                await self.look()

    async def _tell(self, record: Record, stall: Stall | None) -> None:
        if stall is not None and stall.error is not None:
            await self._records.stop(record, State.FAILED, stall.error)
            return
        detail = stall.detail if stall is not None else None
        if detail != record.detail:
            record.detail = detail
            self._records.notify(record)

    def _works(self) -> list[Work]:
        return [
            Work(
                each.record_id,
                each.task_id,
                each.scheduling_timeout,
                frozenset(map(_id_of, each.placement_groups)),
                each.starts,
            )
            for each in self._records.of(None, None)
            if not each.finished and each.task_id is not None
        ]


def _id_of(group: object) -> str:
    return str(group.id.hex())  # type: ignore[attr-defined]  # The class of Ray's has no place in this half.
