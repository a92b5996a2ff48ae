"""Everything a callable writes, from ``print`` to a C library, as batches of lines."""

from __future__ import annotations

import logging
import math
import os
import re
import select
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from airflow_ray.cluster.redaction import LineCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLUSH_SECONDS = 0.25
# Between two states of progress bars, which write many a second.
PROGRESS_SECONDS = 5.0
# What moves the cursor or erases, on a screen; colours stay.
_CURSOR = re.compile(rb"\x1b\[[0-9;?]*[A-HJKSTfhlsu]|\x08")
READ_BYTES = 64 * 1024
MAX_BATCH_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024
# A child process that outlives the callable may write on: its output is followed no longer than this.
DRAIN_SECONDS = 2.0


class _Pump(threading.Thread):
    """Reads a pipe, writes it through to the worker's own log file and sends it on in batches of lines.

    Whatever becomes of either copy it reads on: once nobody reads the pipe, it fills up, and the callable hangs.
    """

    def __init__(
        self, source: int, wake: int, through: int, send: Callable[[list[str]], None], secrets: list[str]
    ) -> None:
        super().__init__(name="airflow-ray-log-pump", daemon=True)
        self._source = source
        self._wake = wake
        self._through = through
        self._send = send
        self._cutter = LineCutter(secrets, MAX_LINE_BYTES)
        self._partial = b""
        self._lines: list[str] = []
        self._bytes = 0
        # Of the line that is being written: its newest state that was sent on, where it is a progress bar.
        self._shown_state: bytes | None = None
        self._next_state_at = 0.0

    def run(self) -> None:
        due = time.monotonic()
        while True:
            waits_until = min(due if self._lines else math.inf, self._state_is_due_at())
            timeout = None if waits_until == math.inf else max(0.0, waits_until - time.monotonic())
            ready = _readable([self._source, self._wake], timeout)
            if self._wake in ready:
                break
            if self._source in ready:
                self._take(os.read(self._source, READ_BYTES))
            if time.monotonic() >= self._state_is_due_at():
                self._shown_state = _newest_state(self._partial)
                self._add(self._shown_state)
                self._next_state_at = time.monotonic() + PROGRESS_SECONDS
            if self._bytes >= MAX_BATCH_BYTES or (self._lines and time.monotonic() >= due):
                self._flush()
                due = time.monotonic() + FLUSH_SECONDS
        self._drain()
        self._take(b"\n" if self._partial else b"")
        self._flush()

    def _drain(self) -> None:
        """Read what is left, up to the end of the pipe unless a child process still holds it open."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and _readable([self._source], 0.0):
            data = os.read(self._source, READ_BYTES)
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._write_through(data)
        *complete, self._partial = (self._partial + data).split(b"\n")
        for line in complete:
            self._end_line(line)
        if b"\r" in self._partial:
            # Of what came before it nothing is shown any more; what comes goes over it, or goes on with it.
            goes_over = not _newest_state(self._partial.rpartition(b"\r")[2]).strip()
            self._partial = b"\r" + _newest_state(self._partial) + b"\r" * goes_over
        pieces, self._partial = self._cutter.cut(self._partial)
        for piece in pieces:
            self._end_line(piece)

    def _end_line(self, line: bytes) -> None:
        newest = _newest_state(line)
        if newest != self._shown_state:
            self._add(newest)
        self._shown_state = None

    def _state_is_due_at(self) -> float:
        """Return when the newest state of a progress bar is to be sent on, by the monotonic clock, or infinity."""
        is_new = b"\r" in self._partial and _newest_state(self._partial) not in (b"", self._shown_state)
        return self._next_state_at if is_new else math.inf

    def _add(self, line: bytes) -> None:
        self._lines.append(line.decode(errors="replace"))
        self._bytes += len(line) + 1

    def _flush(self) -> None:
        if self._lines:
            lines, self._lines, self._bytes = self._lines, [], 0
            try:
                self._send(lines)
            # Whatever it is, these lines are in the worker's own log file, and so is the reason.
            except Exception:
                self._write_through(f"These lines reach no other log:\n{traceback.format_exc()}".encode())

    def _write_through(self, data: bytes) -> None:
        """Write to the worker's own log file as far as that takes it: a full disk costs this copy, not the callable."""
        with suppress(OSError):
            while data:
                data = data[os.write(self._through, data) :]


def _newest_state(line: bytes) -> bytes:
    """Return what a screen shows of a line in which carriage returns go back to its beginning; not what clears it."""
    states = [_CURSOR.sub(b"", state) for state in line.split(b"\r")] if _is_drawn(line) else [line]
    return next((state for state in reversed(states) if state.strip()), b"" if len(states) > 1 else states[0])


def _is_drawn(line: bytes) -> bool:
    return b"\r" in line or b"\x1b[" in line or b"\x08" in line


def _readable(descriptors: list[int], timeout: float | None) -> set[int]:
    """Return which of these can be read, after at most ``timeout`` seconds; unlike ``select``, beyond 1,024 too."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)}


def _flush_streams() -> None:
    """Flush what ``print`` writes to: the callable may have closed it, or the disk of the log file be full."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


@contextmanager
def _standard_streams() -> Iterator[None]:
    """Point ``sys.stdout`` and ``sys.stderr`` at the redirected descriptors, line by line.

    They are not closed at the end: a log handler that the callable left behind may hold one,
    and goes on writing to whatever descriptors 1 and 2 then are.
    """
    streams = sys.stdout, sys.stderr
    _flush_streams()
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        _flush_streams()
        sys.stdout, sys.stderr = streams


@contextmanager
def _root_logging() -> Iterator[None]:
    """Let ``logging.info`` of the callable be seen, as it is under Airflow's own PythonOperator.

    What the callable sets of loggers is put back: the next task's lines would be lost, or shown twice.
    """
    root = logging.getLogger()
    level = root.level
    before = {each: (each.handlers[:], each.filters[:], each.propagate, each.disabled) for each in _loggers()}
    levels = {each: each.level for each in before}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        for each in _loggers():
            if each in before:
                each.handlers[:], each.filters[:], each.propagate, each.disabled = before[each]
                # To set it makes each of the loggers, hundreds in some processes, forget what it knows of its level.
                if each.level != levels[each]:
                    each.setLevel(levels[each])
                continue
            each.disabled = False
            # Of one that does not pass its lines on, such as that of a library, the handler has to stay.
            if each.propagate:
                each.handlers.clear()


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [logging.root, *(each for each in list(named) if isinstance(each, logging.Logger))]


@contextmanager
def tee_output(send: Callable[[list[str]], None], secrets: list[str]) -> Iterator[None]:
    """Send what this process writes to stdout and stderr, at file descriptor level, to ``send``.

    A full pipe makes the writer wait, so a slow ``send`` slows the callable down and loses nothing.

    :param send: called from a thread of its own with each batch of lines, the last before this returns. Where it
        raises, that batch stays in the worker's own log file only.
    :param secrets: which ``send`` hides in a line. Before a line is cut that is too long, they are hidden here.
    """
    source, sink = os.pipe()
    wake, stop = os.pipe()
    saved = os.dup(1), os.dup(2)
    pump = _Pump(source, wake, saved[0], send, secrets)
    with _standard_streams():
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
        pump.start()
        try:
            with _root_logging():
                yield
        finally:
            _flush_streams()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            # To close it would not do: a child that the callable has forked holds it open.
            os.write(stop, b"x")
            pump.join()
            for descriptor in (source, wake, stop, *saved):
                os.close(descriptor)
