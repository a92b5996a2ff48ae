"""Looks whether work that goes on waits in vain, and has its record say so."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_ray.cluster.owner.remaking import Remaking
from airflow_ray.cluster.owner.scheduling import Verdict
from airflow_ray.cluster.owner.stalls import Stalls, Work, who_holds
from airflow_ray.cluster.protocol import FailureKind, State

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.cluster_look import Look
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records

LOOK_SECONDS = 8.0


class StallWatch:
    """One look at the cluster from time to time for all work, while some has not ended.

    :param records: of the owner.
    :param ray: what has Ray do it.
    """

    def __init__(self, records: Records, ray: RayCalls) -> None:
        self._records = records
        self._ray = ray
        self._stalls = Stalls()
        # Of work that had begun and was seen without a process, by the id of its task and how often it had begun.
        self._remakings: dict[tuple[str, int], Remaking] = {}
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
        seen = await self._ray.look()
        if seen is None:
            return
        self._seen, works = seen, self._works()
        stalls = self._stalls.judge(seen, works, time.monotonic())
        returning = self._returning(works, seen.placeless)
        for work in works:
            if work.record_id not in returning:
                await self._tell(work, stalls.get(work.record_id))
        # Of their inputs Ray is asked, which may take a while.
        again = [work for work in works if work.record_id in returning]
        await asyncio.gather(
            *(self._judge_inputs(each, returning[each.record_id], stalls.get(each.record_id)) for each in again)
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._works():
                return
            # What one look does not tell, the next one may.
            with suppress(Exception):
                await self.look()

    def _returning(self, works: list[Work], placeless: frozenset[str]) -> dict[str, Remaking]:
        """Return who judges the inputs of work that has begun and that Ray is to run again, by its record id."""
        known, self._remakings = self._remakings, {}
        returning = {}
        for work in works:
            record, name = self._records.get(work.record_id), (work.key, work.starts)
            is_placeless = work.starts > 0 and work.key in placeless
            # For a second Ray still shows as waiting what has begun again: only the second look is believed.
            if is_placeless and name in known:
                returning[work.record_id] = known[name]
            if record is not None and (is_placeless or name in known):
                self._remakings[name] = known.get(name) or Remaking(record, self._records, self._ray)
        return returning

    async def _judge_inputs(self, work: Work, remaking: Remaking, stall: Verdict | None) -> None:
        is_late = stall is not None and stall.error is not None
        await self._tell(work, await remaking.check(is_late) or stall, remaking)

    async def _tell(self, work: Work, verdict: Verdict | None, remaking: Remaking | None = None) -> None:
        """Have a record say what its work waits for, or end it."""
        detail, error = verdict or Verdict()
        async with self._records.lock(work.record_id):
            record = self._running(work)
            if record is None:
                return
            if error is not None:
                if remaking is not None and error["kind"] == FailureKind.INPUT_LOST:
                    await remaking.give_up()
                await self._records.stop(record, State.FAILED, error)
            elif detail != record.detail:
                record.detail = detail
                self._records.notify(record)

    def _running(self, work: Work) -> Record | None:
        """Return the record of work unless it has ended, or begun again and waits no more."""
        record = self._records.get(work.record_id)
        if record is None or record.state != State.RUNNING:
            return None
        return record if (record.task_id, record.starts) == (work.key, work.starts) else None

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
