"""The process of the gateway as its keeper sees it: from its start to its end."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from airflow_ray.cluster.gateway.files import (
    GatewayError,
    GatewayProcess,
    forget,
    keep_fresh,
    last_lines,
    note_of,
    note_process,
    noted_process,
    open_log,
    shorten_log,
    start_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from airflow_ray.cluster.gateway.settings import GatewaySettings

END_SECONDS = 5.0
POLL_SECONDS = 0.1

# Of a process that calls what it reads, a function pickled by value, and its arguments.
CODE = "import pickle, sys; f, args = pickle.load(sys.stdin.buffer); pickle.loads(f)(*args)"


class Duty:
    """What is to be kept running.

    :param settings: of the gateway.
    :param release: of the package that it runs.
    :param pickled_serve: the function that becomes the gateway, pickled by value.
    :param arguments: of that function.
    """

    def __init__(
        self, settings: GatewaySettings, release: str, pickled_serve: bytes, arguments: tuple[object, ...]
    ) -> None:
        self.settings = settings
        self.release = release
        self._pickled_serve = pickled_serve
        self._arguments = arguments

    def run(self, goes_on: Callable[[], bool], ready_seconds: float) -> bool:
        """Start a process and return when it has ended: whether it was asked to.

        :param goes_on: whether it is still wanted; it is ended when not.
        :param ready_seconds: until it must take connections.
        :raises GatewayError: it never did.
        """
        _end(noted_process(self.settings))
        forget(self.settings)
        _check_port(self.settings)
        child = self._start()
        keeper = os.getpid()
        process = GatewayProcess(child.pid, start_time(child.pid), self.release, keeper, start_time(keeper))
        note_process(self.settings, process)
        deadline, is_ready = time.monotonic() + ready_seconds, False
        try:
            while child.poll() is None:
                if not goes_on():
                    return True
                is_ready = is_ready or note_of(self.settings, process) is not None
                if not is_ready and time.monotonic() > deadline:
                    break
                shorten_log(self.settings)
                keep_fresh(self.settings)
                time.sleep(POLL_SECONDS)
            if child.returncode != 0 and not is_ready:
                raise GatewayError(f"The gateway did not start on the Ray head. {last_lines(self.settings)}")
            return child.returncode == 0
        finally:
            _end(process)
            child.wait()
            with suppress(BrokenPipeError):
                cast("IO[bytes]", child.stdin).close()
            forget(self.settings)

    def _start(self) -> subprocess.Popen[bytes]:
        log = open_log(self.settings)
        try:
            child = subprocess.Popen(
                [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        finally:
            os.close(log)
        stdin = cast("IO[bytes]", child.stdin)
        # One that dies at once says why in its log. What it reads ends when this process does.
        with suppress(BrokenPipeError):
            pickle.dump((self._pickled_serve, self._arguments), stdin)
            stdin.flush()
        return child


def _check_port(settings: GatewaySettings) -> None:
    if settings.host is None:
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # A server that has just ended leaves connections behind that keep nobody from the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        remedy = (
            "Another program listens there: end it, or give the gateway another port"
            if error.errno == errno.EADDRINUSE
            else "Name an address of the head with --host, and a port that its user may take with --port"
        )
        raise GatewayError(
            f"The gateway cannot listen on {settings.host}:{settings.port} of the Ray head: {error.strerror}. {remedy}"
        ) from None


def _end(process: GatewayProcess | None) -> None:
    """End a process that may have ended already, by force if it takes its time."""
    if process is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        process.signal(number)
        deadline = time.monotonic() + END_SECONDS
        while process.alive and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
