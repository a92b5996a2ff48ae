"""The log lines of one piece of work."""

from __future__ import annotations

import itertools
from collections import deque
from typing import NamedTuple

from airflow_ray.cluster.log_levels import levels_of

# Batches that come after each other are kept as one up to this size: work writes a few lines at a time, for hours.
MERGED_BYTES = 16 * 1024


class _Batch(NamedTuple):
    start: int
    lines: list[str]
    levels: str
    size: int

    @property
    def end(self) -> int:
        return self.start + len(self.lines)


class LogPart(NamedTuple):
    """Lines that follow each other.

    :param lines: their texts.
    :param levels: a letter for each, see :mod:`airflow_ray.cluster.log_levels`.
    :param offset: number of the line after them.
    :param skipped: how many lines before them were dropped.
    """

    lines: list[str]
    levels: str
    offset: int
    skipped: int


class LogBuffer:
    """The newest log lines of one record, at most ``max_bytes`` of them; offsets count lines from the first.

    :param max_bytes: what is kept, in bytes of text and line ends; older batches are dropped first.
    """

    def __init__(self, max_bytes: int = 4 * 1024 * 1024) -> None:
        self.end = 0
        self.bytes = 0
        self._max_bytes = max_bytes
        self._merged_bytes = min(MERGED_BYTES, max_bytes // 8)
        self._batches: deque[_Batch] = deque()

    def append(self, lines: list[str], levels: str = "") -> None:
        """Add a batch of lines, with the letters of their levels, and drop the oldest batches beyond the limit."""
        if not lines:
            return
        start, size = self.end, size_of(lines)
        batch = _Batch(start, lines, levels_of(lines, levels), size)
        if self._batches and self._batches[-1].size + size <= self._merged_bytes:
            last = self._batches.pop()
            batch = _Batch(last.start, [*last.lines, *lines], last.levels + batch.levels, last.size + size)
        self._batches.append(batch)
        self.end += len(lines)
        self.bytes += size
        self._drop_beyond(self._max_bytes)

    def keep_tail(self, max_bytes: int) -> None:
        """Drop the oldest lines beyond ``max_bytes``, of a batch that is too large as a whole too."""
        self._drop_beyond(max_bytes)
        if self.bytes > max_bytes:
            start, lines, levels, size = self._batches.pop()
            dropped = 0
            while dropped < len(lines) and size > max_bytes:
                size -= size_of(lines[dropped : dropped + 1])
                dropped += 1
            self._batches.append(_Batch(start + dropped, lines[dropped:], levels[dropped:], size))
            self.bytes = size

    def read(self, offset: int, max_bytes: int = 1024 * 1024) -> LogPart:
        """Return the lines from ``offset`` on."""
        lines: list[str] = []
        levels = ""
        size = skipped = 0
        for batch in self._from(offset):
            if lines and size + batch.size > max_bytes:
                break
            if not lines:
                skipped += max(0, batch.start - offset)
                offset = max(offset, batch.start)
            lines += batch.lines[offset - batch.start :]
            levels += batch.levels[offset - batch.start :]
            offset = batch.end
            size += batch.size
        return LogPart(lines, levels, offset, skipped)

    def unread_bytes(self, offset: int) -> int:
        """Return the size of the lines from ``offset`` on."""
        unread = self._from(offset)
        read = size_of(unread[0].lines[: max(0, offset - unread[0].start)]) if unread else 0
        return sum(batch.size for batch in unread) - read

    def _from(self, offset: int) -> list[_Batch]:
        """Return the batches that hold lines from ``offset`` on; followers have read nearly all, so the end is near."""
        newest = itertools.takewhile(lambda batch: batch.end > offset, reversed(self._batches))
        return list(newest)[::-1]

    def _drop_beyond(self, max_bytes: int) -> None:
        while self.bytes > max_bytes and len(self._batches) > 1:
            self.bytes -= self._batches.popleft().size


def size_of(lines: list[str]) -> int:
    """Return what lines take, with their ends: an empty one takes room too, and there may be millions."""
    return sum(map(len, lines)) + len(lines)
