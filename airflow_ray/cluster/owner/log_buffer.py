"""The log lines of one piece of work."""

from __future__ import annotations

from collections import deque


class LogBuffer:
    """The newest log lines of one record, at most ``max_bytes`` of them; offsets count lines from the first.

    :param max_bytes: what is kept, in bytes of text; older batches are dropped first.
    """

    def __init__(self, max_bytes: int = 4 * 1024 * 1024) -> None:
        self.end = 0
        self.bytes = 0
        self._max_bytes = max_bytes
        self._batches: deque[tuple[int, list[str], int]] = deque()

    def append(self, lines: list[str]) -> None:
        """Add a batch of lines and drop the oldest batches beyond the limit."""
        size = sum(map(len, lines))
        self._batches.append((self.end, lines, size))
        self.end += len(lines)
        self.bytes += size
        self._drop_beyond(self._max_bytes)

    def keep_tail(self, max_bytes: int) -> None:
        """Drop the oldest lines beyond ``max_bytes``, of a batch that is too large as a whole too."""
        self._drop_beyond(max_bytes)
        if self.bytes > max_bytes:
            start, lines, size = self._batches.pop()
            while lines and size > max_bytes:
                size -= len(lines[0])
                start, lines = start + 1, lines[1:]
            self._batches.append((start, lines, size))
            self.bytes = size

    def read(self, offset: int, max_bytes: int = 1024 * 1024) -> tuple[list[str], int, int]:
        """Return the lines from ``offset`` on, the next offset, and how many lines before were dropped."""
        lines: list[str] = []
        size = skipped = 0
        for start, batch, batch_bytes in self._batches:
            if start + len(batch) <= offset:
                continue
            if lines and size + batch_bytes > max_bytes:
                break
            if not lines:
                skipped += max(0, start - offset)
                offset = max(offset, start)
            lines += batch[offset - start :]
            offset = start + len(batch)
            size += batch_bytes
        return lines, offset, skipped

    def unread_bytes(self, offset: int) -> int:
        """Return the size of the batches that start at ``offset`` or later."""
        return sum(size for start, _, size in self._batches if start >= offset)

    def _drop_beyond(self, max_bytes: int) -> None:
        while self.bytes > max_bytes and len(self._batches) > 1:
            self.bytes -= self._batches.popleft()[2]
