"""Lines, each with its level, from what a process writes in pieces of any size."""

from __future__ import annotations

import math
import re
import time

from airflow_ray.cluster.log_levels import PLAIN
from airflow_ray.cluster.redaction import LineCutter
from airflow_ray.cluster.worker.ray_bars import RayBars

# Between two states of progress bars, which write many a second.
PROGRESS_SECONDS = 5.0
MAX_LINE_BYTES = 64 * 1024
# What moves the cursor or erases, on a screen; colours stay.
_CURSOR = re.compile(rb"\x1b\[[0-9;?]*[A-HJKSTfhlsu]|\x08")


class LineAssembler:
    """Puts lines together, and shows of a progress bar its newest state from time to time.

    :param secrets: which are hidden in a line that is cut, since it is too long; as for :class:`LineCutter`.

    ``bytes`` is the size of the lines that are there to be popped, ``was_cut_short`` whether the last line that
    :meth:`end` has ended had no end of its own.
    """

    def __init__(self, secrets: list[str]) -> None:
        self.bytes = 0
        self.was_cut_short = False
        self._cutter = LineCutter(secrets, MAX_LINE_BYTES)
        self._bars = RayBars(PROGRESS_SECONDS)
        self._partial = b""
        self._level = PLAIN
        self._lines: list[str] = []
        self._levels: list[str] = []
        # Of the line that is being written: its newest state that was sent on, where it is a progress bar.
        self._shown_state: bytes | None = None
        self._next_state_at = 0.0

    @property
    def has_partial(self) -> bool:
        """Whether a line is being written."""
        return bool(self._partial)

    def take(self, data: bytes) -> None:
        """Take what was written next."""
        *complete, self._partial = (self._partial + data).split(b"\n")
        for line in complete:
            self._end_line(line)
            self._level = PLAIN
        if b"\r" in self._partial:
            # Of what came before it nothing is shown any more; what comes goes over it, or goes on with it.
            goes_over = not _newest_state(self._partial.rpartition(b"\r")[2]).strip()
            self._partial = b"\r" + _newest_state(self._partial) + b"\r" * goes_over
        pieces, self._partial = self._cutter.cut(self._partial)
        for piece in pieces:
            self._end_line(piece)

    def set_level(self, letter: str) -> None:
        """Let the line that is being written be of this level."""
        self._level = letter

    def end(self) -> None:
        """End the line that is being written."""
        self.was_cut_short = bool(self._partial)
        self.take(b"\n" if self._partial else b"")

    def pop(self) -> tuple[list[str], str]:
        """Return the lines that are there, with the letter of the level of each, and forget them."""
        lines, levels = self._lines, "".join(self._levels)
        self._lines, self._levels, self.bytes = [], [], 0
        return lines, levels

    def state_is_due_at(self) -> float:
        """Return when the newest state of a progress bar is to be sent on, by the monotonic clock, or infinity."""
        is_new = b"\r" in self._partial and _newest_state(self._partial) not in (b"", self._shown_state)
        return self._next_state_at if is_new else math.inf

    def take_due_state(self) -> None:
        """Make a line of the newest state of a progress bar if it is time."""
        if time.monotonic() >= self.state_is_due_at():
            self._shown_state = _newest_state(self._partial)
            self._add(self._shown_state)
            self._next_state_at = time.monotonic() + PROGRESS_SECONDS

    def _end_line(self, line: bytes) -> None:
        newest = self._bars.shown(_newest_state(line))
        if newest is not None and newest != self._shown_state:
            self._add(newest)
        self._shown_state = None

    def _add(self, line: bytes) -> None:
        self._lines.append(line.decode(errors="replace"))
        self._levels.append(self._level)
        self.bytes += len(line) + 1


def _newest_state(line: bytes) -> bytes:
    """Return what a screen shows of a line in which carriage returns go back to its beginning; not what clears it."""
    states = [_CURSOR.sub(b"", state) for state in line.split(b"\r")] if _is_drawn(line) else [line]
    return next((state for state in reversed(states) if state.strip()), b"" if len(states) > 1 else states[0])


def _is_drawn(line: bytes) -> bool:
    return b"\r" in line or b"\x1b[" in line or b"\x08" in line
