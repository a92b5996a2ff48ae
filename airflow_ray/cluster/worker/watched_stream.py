"""Streams of a process of which somebody gets a copy."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What is longer without an end of line is handed on as it is.
PIECE = 64 * 1024


class WatchedStream:
    """A stream of which somebody gets a copy, a whole line of each thread at a time.

    ``print`` writes the end of a line by itself, and another thread may come in between.

    :param take: gets it.
    """

    def __init__(self, stream: Any, take: Callable[[str], None]) -> None:
        self._stream = stream
        self._take = take
        self._of_thread = threading.local()

    def write(self, text: str) -> Any:
        """Write, and hand on what is a whole line now."""
        written = self._stream.write(text)
        before = self.pop_begun()
        whole, end, begun = (before + text).rpartition("\n")
        if "\r" in begun or len(begun) > PIECE:
            # A progress bar is to be seen while it goes on.
            whole, begun = whole + end + begun, ""
        self._of_thread.begun = begun
        if whole or end:
            self._take(whole + end)
        return written

    def pop_begun(self) -> str:
        """Return what this thread has written of a line without an end, and forget it."""
        begun: str = getattr(self._of_thread, "begun", "")
        self._of_thread.begun = ""
        return begun

    def writelines(self, lines: Any) -> None:
        """Write one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def layers_of(stream: Any) -> list[Any]:
    """Return a stream and what Ray has wrapped in it."""
    inner = getattr(stream, "stream", None)
    return [stream] if inner is None else [stream, inner]
