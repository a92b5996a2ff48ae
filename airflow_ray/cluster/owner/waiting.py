"""Those who wait for work: followers of one piece, watchers of many, and the work that writes faster than they read."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.owner.bell import Bell
from airflow_ray.cluster.owner.log_buffer import size_of
from airflow_ray.cluster.protocol import PollAnswer, State, WatchNews

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records

MAX_UNREAD_BYTES = 2 * 1024 * 1024
# Of lines that come at once: more than the log of a record takes would drop what nobody has read yet.
MAX_PART_BYTES = 256 * 1024
# A watcher hears of lines at the end of its interval, and at once of so many.
WATCH_UNREAD_BYTES = 256 * 1024
MAX_WATCH_BYTES = 4 * 1024 * 1024

# Record id, the key of the object that is waited for or None, and the offset of the log lines.
Wanted = tuple[str, "str | None", "int | None"]


class Waiting:
    """Answers those who wait as soon as there is news.

    :param records: of the owner.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._watch_news = Bell()
        self._watch_calls = itertools.count()
        self._latest_watch: dict[str, int] = {}

    async def poll(self, record_id: str, offset: int | None, timeout: float) -> PollAnswer:
        """Return log lines from ``offset`` on and the state, as soon as either is news.

        :param offset: None for where an earlier follower stopped.
        :param timeout: seconds to wait for news; 0 returns what is known, to somebody who does not follow.
        """
        record = self._records.get(record_id)
        if record is None:
            totals = self._records.totals.told()
            return {"state": State.LOST.value, "lines": [], "offset": offset or 0, "skipped": 0, "totals": totals}
        known = record.state, record.detail
        start = record.read_offset if offset is None else offset
        if timeout:
            record.note_read(start)
            record.changed.ring()
        await record.changed.wait_for(
            lambda: record.finished or record.log.end > start or (record.state, record.detail) != known, timeout
        )
        if timeout:
            record.note_read()
        # The log of another attempt may be shorter than what a follower has read of the one before.
        part = record.log.read(min(start, record.log.end))
        totals = self._records.totals.told()
        answer: PollAnswer = {"state": record.state.value, "detail": record.detail, "totals": totals}
        answer |= {"lines": part.lines, "levels": part.levels, "offset": part.offset, "skipped": part.skipped}
        if record.finished and record.log.end == part.offset:
            answer |= {"record": record.describe(), "value_json": record.value_json}
            # Of those who follow: an answer with lines may get lost on its way, and its follower ask for them again.
            if timeout and not part.lines:
                self._records.shorten_log(record)
        return answer

    async def watch(self, watcher: str, wanted: list[Wanted], timeout: float) -> list[WatchNews | None] | None:
        """Return news of many pieces of work, as soon as one of them has ended.

        :param watcher: who asks; a call ends when a newer one of the same watcher comes.
        :param wanted: for each a record id, the key of the object that is waited for, and the offset of log lines,
            as for :meth:`poll`. Without a key the work is followed: its log lines are news, and so is that it is not
            known.
        :param timeout: seconds to wait.
        :returns: None in all if a newer call came, None for each of which there is no news.
        """
        call = self._latest_watch[watcher] = next(self._watch_calls)
        try:
            await self._until_urgent(watcher, call, wanted, timeout)
            return self._news(watcher, wanted) if self._latest_watch.get(watcher) == call else None
        # Whoever asks may go away while it waits.
        finally:
            if self._latest_watch.get(watcher) == call:
                del self._latest_watch[watcher]

    async def watch_with_totals(self, watcher: str, wanted: list[Wanted], timeout: float) -> Any:
        """Return what :meth:`watch` does, and behind that the totals of the owner, which earlier clients pass over."""
        answers = await self.watch(watcher, wanted, timeout)
        return None if answers is None else [*answers, {"totals": self._records.totals.told()}]

    async def append_log(self, record: Record, lines: list[str], levels: str = "") -> bool:
        """Keep log lines, with the letters of their levels, waiting while somebody follows who has many unread.

        :returns: whether further lines are wanted.
        """
        if record.finished:
            return False
        for part in _parts(lines):
            while self._follower_lags(record):
                await record.changed.wait(1.0)
            # Another attempt may have taken its place meanwhile, whose log is another one.
            if not self._records.is_current(record):
                return False
            self._records.append_log(record, lines[part], levels[part])
            record.changed.ring()
            if record.log.unread_bytes(record.read_offset) > WATCH_UNREAD_BYTES:
                self._watch_news.ring()
        return True

    def notify(self, record: Record) -> None:
        """Tell those who wait for a record that it has changed."""
        record.changed.ring()
        if record.finished:
            self._watch_news.ring()

    async def _until_urgent(self, watcher: str, call: int, wanted: list[Wanted], timeout: float) -> None:
        self._watch_news.ring()
        for record_id, key, offset in wanted:
            record = self._records.get(record_id)
            if key is None and record is not None:
                record.note_read(offset)
        await self._watch_news.wait_for(
            lambda: self._latest_watch.get(watcher) != call or any(self._is_urgent(*each) for each in wanted), timeout
        )

    def _is_urgent(self, record_id: str, key: str | None, offset: int | None) -> bool:
        record = self._records.get(record_id)
        if record is None or key is not None:
            return self._has_ended(record, key)
        return record.finished or record.log.unread_bytes(record.read_offset) > WATCH_UNREAD_BYTES

    def _has_ended(self, record: Record | None, key: str | None) -> bool:
        if record is None:
            return key is None
        return record.finished and key not in record.lost

    def _news(self, watcher: str, wanted: list[Wanted]) -> list[WatchNews | None]:
        told: dict[str, set[str | None]] = {}
        answers: list[WatchNews | None] = []
        room = MAX_WATCH_BYTES
        for record_id, key, offset in wanted:
            record = self._records.get(record_id)
            news: WatchNews = {
                "state": (record.state if record else State.LOST).value,
                "ended": self._has_ended(record, key),
                "lines": [],
                "levels": "",
                "offset": offset,
                "skipped": 0,
                "detail": None,
            }
            if record is not None and record.detail != record.watched_details.get((watcher, key)):
                news["detail"] = record.detail
                told.setdefault(record_id, set()).add(key)
            if record is not None and key is None:
                record.note_read()
            if record is not None and key is None and room > 0:
                start = record.read_offset if offset is None else offset
                part = record.log.read(start)
                news["lines"], news["levels"], news["offset"], news["skipped"] = part
                room -= size_of(news["lines"])
            answers.append(news if news["ended"] or news["lines"] or news["detail"] else None)
        # Several of one watcher may wait for the same.
        for record_id, keys in told.items():
            record = self._records.get(record_id)
            if record is not None:
                record.watched_details |= dict.fromkeys(((watcher, key) for key in keys), record.detail)
        return answers

    def _follower_lags(self, record: Record) -> bool:
        return (
            not record.finished
            and record.is_followed
            and record.log.unread_bytes(record.read_offset) > MAX_UNREAD_BYTES
        )


def _parts(lines: list[str]) -> Iterator[slice]:
    """Yield where the parts of lines are, one after another, that have at most ``MAX_PART_BYTES`` or one line."""
    start = size = 0
    for number, line in enumerate(lines):
        if size and size + len(line) >= MAX_PART_BYTES:
            yield slice(start, number)
            start, size = number, 0
        size += size_of([line])
    yield slice(start, len(lines))
