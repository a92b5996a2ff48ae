"""Who is let in, and what a peer that is not can make the gateway hold."""

from __future__ import annotations

import hmac
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.gateway.settings import sum_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Arrow Flight reads the whole body of a call before anybody can refuse it. A gateway that holds more than this over
# what it began with ends, and is started again: its own work, 16 transfers and 2,000 calls that wait, stays below.
MAX_GROWTH_BYTES = 1_500_000_000
CHECK_SECONDS = 0.05
# After so long without a byte the other end of a connection is asked for a sign of life, and again every few seconds;
# gRPC has it given up after 20 seconds without an answer.
QUIET_SECONDS = 25
PROBE_SECONDS = 5
_SCHEME = "Bearer "


class Tokens:
    """The tokens that are let in, by their SHA-256 sums, as the file has them at the moment.

    :param path: of the file; where there is none, nobody is let in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Replaced as a whole, so that no thread sees the stamp of one file and the sums of another.
        self._known: tuple[Any, frozenset[bytes]] = None, frozenset()

    def let_in(self, header: str) -> bool:
        """Whether the header of a call has one of them."""
        sums = self._sums()
        given = sum_of(header.removeprefix(_SCHEME)) if header.startswith(_SCHEME) else ""
        return any(hmac.compare_digest(given.encode(), each) for each in sums)

    def _sums(self) -> frozenset[bytes]:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_ino, status.st_size
            if self._known[0] != stamp:
                self._known = stamp, frozenset(self._path.read_bytes().split())
        except OSError:
            return frozenset()
        return self._known[1]


def middleware(tokens: Tokens) -> dict[str, Any]:
    """Return what refuses each call that has no token of ``tokens``."""
    from pyarrow import flight

    class Doorkeeper(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
        def start_call(self, info: Any, headers: dict[str, list[str]]) -> None:
            given = [each for name, values in headers.items() if name.lower() == "authorization" for each in values]
            if not any(map(tokens.let_in, given)):
                raise flight.FlightUnauthenticatedError("another token is asked for" if given else "a token is missing")

    return {"doorkeeper": Doorkeeper()}


def notice_vanished_hosts(port: int) -> None:
    """Have the connections end whose other end has vanished without a word, also those that nobody uses at the moment.

    Arrow Flight lets nobody tell its server to look after them, so the kernel does.

    :param port: that this process listens on; connections inherit what is set of it.
    """
    for number in map(int, os.listdir("/proc/self/fd")):
        # It may be no socket, or have been closed just now.
        with suppress(OSError), socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as each:
            is_listening = each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if is_listening and each.getsockname()[1:2] == (port,):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, QUIET_SECONDS)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)


def limit_growth(end: Callable[[], None], at_most: int = MAX_GROWTH_BYTES) -> None:
    """Watch from a thread how much memory this process has, and end it where that is too much.

    :param end: ends it.
    :param at_most: bytes over what it has now.
    """
    # Opened once: a peer that opens connections without end leaves no further file to open.
    statistics = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    limit = _own_bytes(statistics) + at_most

    def watch() -> None:
        while _own_bytes(statistics) <= limit:
            stopped.wait(CHECK_SECONDS)
        end()

    stopped = threading.Event()
    threading.Thread(target=watch, name="airflow-ray-memory", daemon=True).start()


def _own_bytes(statistics: int) -> int:
    """Return the memory of this process without what it shares, such as the object store."""
    _, resident, shared, *_ = map(int, os.pread(statistics, 200, 0).split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
