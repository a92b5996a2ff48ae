"""Everything a callable writes, from ``print`` to a C library, as batches of lines."""

from __future__ import annotations

import logging
import math
import os
import select
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from airflow_ray.cluster.worker.level_marks import LevelMarks, note_levels
from airflow_ray.cluster.worker.line_assembler import LineAssembler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLUSH_SECONDS = 0.25
READ_BYTES = 64 * 1024
MAX_BATCH_BYTES = 256 * 1024
# A child process that outlives the callable may write on: its output is followed no longer than this.
DRAIN_SECONDS = 2.0


class _Pump(threading.Thread):
    """Reads a pipe, writes it through to the worker's own log file and sends it on in batches of lines.

    Whatever becomes of either copy it reads on: once nobody reads the pipe, it fills up, and the callable hangs.
    """

    def __init__(
        self,
        source: int,
        wake: int,
        through: int,
        send: Callable[[list[str], str], None],
        secrets: list[str],
        marks: LevelMarks,
    ) -> None:
        super().__init__(name="airflow-ray-log-pump", daemon=True)
        self._source = source
        self._wake = wake
        self._through = through
        self._send = send
        self._marks = marks
        self._begun_mark = b""
        self._lines = LineAssembler(secrets)

    def run(self) -> None:
        due = time.monotonic()
        lines = self._lines
        while True:
            waits_until = min(due if lines.bytes else math.inf, lines.state_is_due_at())
            timeout = None if waits_until == math.inf else max(0.0, waits_until - time.monotonic())
            ready = _readable([self._source, self._wake], timeout)
            if self._wake in ready:
                break
            if self._source in ready:
                self._take(os.read(self._source, READ_BYTES))
            lines.take_due_state()
            if lines.bytes >= MAX_BATCH_BYTES or (lines.bytes and time.monotonic() >= due):
                self._flush()
                due = time.monotonic() + FLUSH_SECONDS
        self._drain()
        self._take_unmarked(self._begun_mark)
        lines.end()
        self._write_through(b"\n" if lines.was_cut_short else b"")
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
        data = self._begun_mark + data
        whole = len(data) - self._marks.begun(data)
        data, self._begun_mark = data[:whole], data[whole:]
        for text, letter in self._marks.parts(data):
            self._take_unmarked(text)
            if letter is not None:
                self._lines.set_level(letter)

    def _take_unmarked(self, data: bytes) -> None:
        self._write_through(data)
        self._lines.take(data)

    def _flush(self) -> None:
        lines, levels = self._lines.pop()
        if lines:
            try:
                self._send(lines, levels)
            # Whatever it is, these lines are in the worker's own log file, and so is the reason.
            except Exception:
                self._write_through(f"These lines reach no other log:\n{traceback.format_exc()}".encode())

    def _write_through(self, data: bytes) -> None:
        """Write to the worker's own log file as far as that takes it: a full disk costs this copy, not the callable."""
        with suppress(OSError):
            while data:
                data = data[os.write(self._through, data) :]


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
def _standard_streams(marks: LevelMarks) -> Iterator[None]:
    """Point ``sys.stdout`` and ``sys.stderr`` at the redirected descriptors, line by line.

    They are not closed at the end: a log handler that the callable left behind may hold one,
    and goes on writing to whatever descriptors 1 and 2 then are.
    """
    streams = sys.stdout, sys.stderr
    _flush_streams()
    sys.stdout, sys.stderr = marks.stream(1), marks.stream(2)
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
def tee_output(send: Callable[[list[str], str], None], secrets: list[str]) -> Iterator[None]:
    """Send what this process writes to stdout and stderr, at file descriptor level, to ``send``.

    A full pipe makes the writer wait, so a slow ``send`` slows the callable down and loses nothing.

    :param send: called from a thread of its own with each batch of lines and the letters of their levels, the last
        before this returns. Where it raises, that batch stays in the worker's own log file only.
    :param secrets: which ``send`` hides in a line. Before a line is cut that is too long, they are hidden here.
    """
    source, sink = os.pipe()
    wake, stop = os.pipe()
    saved = os.dup(1), os.dup(2)
    marks = LevelMarks()
    note_levels()
    pump = _Pump(source, wake, saved[0], send, secrets, marks)
    with _standard_streams(marks):
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
