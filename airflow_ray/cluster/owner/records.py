"""The records of an owner, and the locks that guard them."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from airflow_ray.cluster.owner.record import Record
from airflow_ray.cluster.owner.totals import Totals
from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

# What is kept of a log when its work has ended and somebody has read it, and of all logs together.
TAIL_BYTES = 256 * 1024
MAX_LOG_BYTES = 64 * 1024 * 1024
# Down to this share of it, so that not each line looks for room.
ROOM_SHARE = 0.9
# Of work that has left nothing: Airflow lets its next try wait for a day at most.
FORGET_SECONDS = 25 * 3600.0
# Tries that were cancelled before their submission came. None of them is expected for long.
MAX_CANCELLED_HOLDERS = 10_000


class Records:
    """What the owner knows of each piece of work, by its record id.

    A verb that touches one record holds the lock of its id from its check to its act. No verb holds two of them.

    :param cancel: ends a task of Ray's with all it has started.
    :param remove_groups: gives back what placement groups hold.
    :param end_actors: ends actors by the states of their handles.
    """

    def __init__(
        self,
        cancel: Callable[[Any], None],
        remove_groups: Callable[[list[Any]], Awaitable[None]],
        end_actors: Callable[[list[bytes]], Awaitable[None]],
    ) -> None:
        self._cancel = cancel
        self._remove_groups = remove_groups
        self._end_actors = end_actors
        self._records: dict[str, Record] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._expiries: dict[str, asyncio.Task[None]] = {}
        self._cancelled_holders: OrderedDict[str, None] = OrderedDict()
        self._log_bytes = 0
        #: What all records come to.
        self.totals = Totals()
        self._on_change: Callable[[Record], None] = lambda _: None
        self._on_discard: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._records)

    def listen(self, on_change: Callable[[Record], None], on_discard: Callable[[], None]) -> None:
        """Call ``on_change`` with a record whose state has changed, and ``on_discard`` when one was forgotten."""
        self._on_change, self._on_discard = on_change, on_discard

    def lock(self, record_id: str) -> asyncio.Lock:
        """Return the lock of a record, which exists before the record does."""
        return self._locks.setdefault(record_id, asyncio.Lock())

    def get(self, record_id: str) -> Record | None:
        """Return the record of that id."""
        return self._records.get(record_id)

    def current(self, record_id: str, attempt: str) -> Record | None:
        """Return the record of that id unless it is one of another attempt by now."""
        record = self._records.get(record_id)
        return record if record is not None and record.attempt == attempt else None

    def is_current(self, record: Record) -> bool:
        """Whether nothing has come in place of ``record``."""
        return self._records.get(record.record_id) is record

    def made_outputs(self, record_id: str, attempt: str) -> list[str] | None:
        """Return the keys of what work had left that Ray runs again, in their order.

        :returns: none where it is not known any more, and None for work that has left nothing yet.
        """
        record = self.current(record_id, attempt)
        return [] if record is None else record.made

    def producers(self, record: Record) -> list[Record]:
        """Return the records, as far as they are known, whose outputs are inputs of ``record``."""
        return [self._records[name] for name, _, _ in record.inputs if name in self._records]

    def editions(self, names: Iterable[str]) -> dict[str, str]:
        """Return the edition of each of these records that is known."""
        return {name: self._records[name].edition for name in names if name in self._records}

    def of(self, dag: str | None, run: str | None) -> list[Record]:
        """Return the records of a DAG and a run, in the order in which they were made; None stands for all."""
        # A copy, made at once: threads ask too, while the event loop makes records and forgets them.
        return [record for record in list(self._records.values()) if _is_of(record.record_id, dag, run)]

    def ids_of(self, dag: str | None, run: str | None) -> list[str]:
        """Return the ids of these records, and of those that are being made."""
        being_made = [name for name, lock in list(self._locks.items()) if lock.locked()]
        known = dict.fromkeys([*self._records, *being_made])
        return [record_id for record_id in known if _is_of(record_id, dag, run)]

    async def create(self, record_id: str, options: dict[str, Any], ttl: float | None) -> Record:
        """Make a record in place of an earlier one; the caller holds its lock."""
        await self.discard(record_id)
        record = self._records[record_id] = Record(record_id, attempt=uuid.uuid4().hex, options=options)
        self.set_ttl(record, ttl)
        self.count(record)
        return record

    async def discard(self, record_id: str) -> None:
        """Stop the work of a record, free its outputs and forget it; the caller holds its lock."""
        record = self._records.pop(record_id, None)
        if record is None:
            return
        self._log_bytes -= record.log.bytes
        if (expiry := self._expiries.pop(record_id, None)) is not None and expiry is not asyncio.current_task():
            expiry.cancel()
        await self.stop(record, State.CANCELLED)
        record.refs.clear()
        record.objects.clear()
        await self.end_belongings(record)
        self._on_discard()

    async def stop(self, record: Record, state: State, error: dict[str, Any] | None = None) -> None:
        """End the work of a record; the caller holds its lock."""
        if record.generator is not None:
            self._cancel(record.generator)
        await self.finish(record, state, error)

    async def finish(self, record: Record, state: State, error: dict[str, Any] | None = None) -> None:
        """Set the final state of a record, once; the caller holds its lock."""
        if record.repeats is not None and not record.finished and self.is_current(record):
            self.append_log(record, *record.repeats.rest())
        record.finish(state, error)
        leaves = state == State.SUCCEEDED and (record.refs or record.actors or record.placement_groups)
        if not leaves and record.ttl is None and self.is_current(record):
            self.set_ttl(record, FORGET_SECONDS)
        for producer in self.producers(record):
            producer.note_used_by(record.attempt)
        self.notify(record)
        # What has succeeded may have returned an actor, or left something in one of its groups that it returned.
        if record.state != State.SUCCEEDED:
            await self.end_belongings(record)

    def notify(self, record: Record) -> None:
        """Tell those who wait for a record that it has changed."""
        self.count(record)
        self._on_change(record)

    def count(self, record: Record) -> None:
        """Take a record that has changed into account in the totals."""
        self.totals.count(record, self.is_current(record))

    async def end_belongings(self, record: Record) -> None:
        """End the actors of a record, and give back what its placement groups hold."""
        actors, record.actors = record.actors, []
        if actors:
            await self._end_actors(actors)
        groups, record.placement_groups = record.placement_groups, []
        if groups:
            await self._remove_groups(groups)

    async def take_belonging(self, record_id: str, attempt: str, kind: str, belonging: Any) -> bool:
        """Keep an actor or a placement group with its record, or end it where that is no longer of use.

        :returns: whether it is kept.
        """
        # Ray cancels the call that tells of it with the work that it is of: just then it is to end.
        return await asyncio.shield(self._take_belonging(record_id, attempt, kind, belonging))

    async def refresh_credentials(
        self, record_id: str, checkpoint: dict[str, Any] | None, storage: dict[str, Any] | None
    ) -> None:
        """Take newer credentials for work that is under way."""
        async with self.lock(record_id):
            record = self._records.get(record_id)
            if record is not None and not record.finished:
                record.checkpoint, record.storage = checkpoint, storage

    def set_ttl(self, record: Record, ttl: float | None) -> None:
        """Let the outputs of a record be released ``ttl`` seconds after their last use, or never if that is None."""
        expiry = self._expiries.pop(record.record_id, None)
        # It sleeps for as long as the earlier time to live says.
        if expiry is not None and expiry is not asyncio.current_task():
            expiry.cancel()
        record.ttl = ttl
        if ttl is not None:
            task = asyncio.get_running_loop().create_task(self._expire(record.record_id))
            self._expiries[record.record_id] = task

    def note_cancelled(self, holder: str) -> None:
        """Take note that what this holder submits later is not to begin."""
        self._cancelled_holders[holder] = None
        if len(self._cancelled_holders) > MAX_CANCELLED_HOLDERS:
            self._cancelled_holders.popitem(last=False)

    def is_cancelled(self, holder: str | None) -> bool:
        """Whether this holder was cancelled."""
        return holder in self._cancelled_holders

    def append_log(self, record: Record, lines: list[str], levels: str) -> None:
        """Keep log lines, in place of others where there are too many."""
        before = record.log.bytes
        record.log.append(lines, levels)
        self._log_bytes += record.log.bytes - before
        if self._log_bytes > MAX_LOG_BYTES:
            self._make_room_for_logs()

    def _make_room_for_logs(self) -> None:
        """Drop logs of work that has ended, and the oldest lines of the longest where somebody still reads them all."""
        ended = [record for record in self._records.values() if record.finished and not record.is_followed]
        ended.sort(key=lambda record: (record.log.end > record.read_offset, record.finished_at or 0.0))
        longest = sorted(self._records.values(), key=lambda record: -record.log.bytes)
        cuts = [*((record, 0) for record in ended), *((record, record.log.bytes // 2) for record in longest)]
        for record, kept in cuts:
            if self._log_bytes <= MAX_LOG_BYTES * ROOM_SHARE:
                return
            self._shorten_log(record, kept)

    def shorten_log(self, record: Record) -> None:
        """Keep the last lines of the log of work that has ended, which somebody has read."""
        self._shorten_log(record, TAIL_BYTES)

    def _shorten_log(self, record: Record, max_bytes: int) -> None:
        if not self.is_current(record):
            return
        before = record.log.bytes
        record.log.keep_tail(max_bytes)
        self._log_bytes += record.log.bytes - before

    async def _take_belonging(self, record_id: str, attempt: str, kind: str, belonging: Any) -> bool:
        async with self.lock(record_id):
            record = self.current(record_id, attempt)
            if record is not None and record.state not in (State.FAILED, State.CANCELLED):
                getattr(record, kind).append(belonging)
                return True
        await (self._end_actors if kind == "actors" else self._remove_groups)([belonging])
        return False

    async def _expire(self, record_id: str) -> None:
        """Release a record when its outputs have not been used for its time to live."""
        while True:
            record = self._records.get(record_id)
            left = 0.0 if record is None or record.ttl is None else record.seconds_left()
            if left > 0:
                await asyncio.sleep(left)
                continue
            # Somebody may have used it while the lock was waited for.
            async with self.lock(record_id):
                record = self._records.get(record_id)
                if record is None or record.ttl is None:
                    self._expiries.pop(record_id, None)
                    return
                if record.seconds_left() <= 0:
                    await self.discard(record_id)
                    return


def _is_of(record_id: str, dag: str | None, run: str | None) -> bool:
    parts = record_id.split("/")
    return dag in (None, parts[0]) and run in (None, parts[1])
