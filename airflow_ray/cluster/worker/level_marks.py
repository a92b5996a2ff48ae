"""The level of each line that a process writes, told by marks in what it writes: so all stays in its order."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.log_levels import PLAIN, letter_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def letter_under_way() -> str:
    """Return the level of the record that this thread is just writing to some handler, or that of plain output."""
    under_way = getattr(logging.Handler.handle, "under_way", None)
    letter: str = getattr(under_way, "letter", PLAIN)
    return letter


def note_levels() -> None:
    """Let :func:`letter_under_way` know from now on, whichever handlers there are and whoever has made them.

    What it notes it keeps with the function that it replaces: each function that is shipped to Ray by value has globals
    of its own.
    """
    handle: Any = logging.Handler.handle
    if hasattr(handle, "under_way"):
        return
    under_way = threading.local()

    def noting(self: logging.Handler, record: logging.LogRecord) -> Any:
        before = getattr(under_way, "letter", PLAIN)
        under_way.letter = letter_of(record.levelno)
        try:
            return handle(self, record)
        finally:
            under_way.letter = before

    noting.under_way = under_way  # type: ignore[attr-defined]
    logging.Handler.handle = noting  # type: ignore[method-assign]


class LevelMarks:
    """Marks before lines of a level of their own, which nobody else writes by chance."""

    def __init__(self) -> None:
        self._begin = b"\x1f" + os.urandom(4).hex().encode()
        self._pattern = re.compile(re.escape(self._begin) + rb"(.)\x1f")
        self._length = len(self._begin) + 2

    def stream(self, descriptor: int) -> io.TextIOWrapper:
        """Return a text stream, line by line, that writes marks; the descriptor stays open when it is closed."""
        file = io.FileIO(descriptor, "w", closefd=False)
        return _MarkingStream(file, self._begin.decode())

    def parts(self, data: bytes) -> Iterator[tuple[bytes, str | None]]:
        """Yield what is between marks, and the letter of the mark behind it."""
        *before, rest = self._pattern.split(data)
        for text, letter in zip(before[::2], before[1::2], strict=True):
            yield text, letter.decode(errors="replace")
        yield rest, None

    def begun(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a mark."""
        start = data.rfind(b"\x1f", max(0, len(data) - self._length + 1))
        if start < 0:
            return 0
        tail = data[start:]
        return len(tail) if tail[: len(self._begin)] == self._begin[: len(tail)] else 0


class _MarkingStream(io.TextIOWrapper):
    def __init__(self, file: io.FileIO, begin: str) -> None:
        super().__init__(io.BufferedWriter(file), encoding="utf-8", errors="replace", line_buffering=True)
        self._begin = begin

    def write(self, text: str) -> int:
        letter = letter_under_way()
        if letter != PLAIN and text.strip("\n"):
            mark = f"{self._begin}{letter}\x1f"
            super().write("\n".join(line and mark + line for line in text.split("\n")))
            return len(text)
        return super().write(text)
