"""Everything a callable writes, from ``print`` to a C library, as batches of lines."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


FLUSH_SECONDS = 0.25


MAX_BATCH_BYTES = 256 * 1024


MAX_LINE_BYTES = 64 * 1024


# A child process that outlives the callable may write on: its output is followed no longer than this.
DRAIN_SECONDS = 2.0


class _Pump(threading.Thread):
    """Reads a pipe, writes it through to the worker's own log file and sends it on in batches of lines."""

    def __init__(self, source: int, wake: int, through: int, send: Callable[[list[str]], None]) -> None:
        super().__init__(name="airflow-ray-log-pump", daemon=True)
        self._source = source
        self._wake = wake
        self._through = through
        self._send = send
        self._partial = b""
        self._lines: list[str] = []
        self._bytes = 0

    def run(self) -> None:
        due = time.monotonic()
        while True:
            timeout = max(0.0, due - time.monotonic()) if self._lines else None
            ready = select.select([self._source, self._wake], [], [], timeout)[0]
            if self._wake in ready:
                break
            if self._source in ready:
                self._take(os.read(self._source, 65536))
            if self._bytes >= MAX_BATCH_BYTES or (self._lines and time.monotonic() >= due):
                self._flush()
                due = time.monotonic() + FLUSH_SECONDS
        self._drain()
        self._take(b"\n" if self._partial else b"")
        self._flush()

    def _drain(self) -> None:
        """Read what is left, up to the end of the pipe unless a child process still holds it open."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and select.select([self._source], [], [], 0)[0]:
            data = os.read(self._source, 65536)
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        os.write(self._through, data)
        *complete, self._partial = (self._partial + data).split(b"\n")
        while len(self._partial) > MAX_LINE_BYTES:
            complete.append(self._partial[:MAX_LINE_BYTES])
            self._partial = self._partial[MAX_LINE_BYTES:]
        for line in complete:
            self._lines.append(line.decode(errors="replace").rstrip("\r"))
            self._bytes += len(line) + 1

    def _flush(self) -> None:
        if self._lines:
            self._send(self._lines)
            self._lines, self._bytes = [], 0


@contextmanager
def _standard_streams() -> Iterator[None]:
    """Point ``sys.stdout`` and ``sys.stderr`` at the redirected descriptors, line by line.

    They are not closed at the end: a log handler that the callable left behind may hold one,
    and goes on writing to whatever descriptors 1 and 2 then are.
    """
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams


@contextmanager
def _root_logging() -> Iterator[None]:
    """Let ``logging.info`` of the callable be seen, as it is under Airflow's own PythonOperator."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def tee_output(send: Callable[[list[str]], None]) -> Iterator[None]:
    """Send what this process writes to stdout and stderr, at file descriptor level, to ``send``.

    A full pipe makes the writer wait, so a slow ``send`` slows the callable down and loses nothing.

    :param send: called from a thread of its own with each batch of lines, the last before this
        returns. It must not raise.
    """
    source, sink = os.pipe()
    wake, stop = os.pipe()
    saved = os.dup(1), os.dup(2)
    pump = _Pump(source, wake, saved[0], send)
    with _standard_streams():
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
        pump.start()
        try:
            with _root_logging():
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(stop)
            pump.join()
            for descriptor in (source, wake, *saved):
                os.close(descriptor)
