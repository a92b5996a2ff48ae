"""A client of Arrow Flight that survives a fork."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.exceptions import RayForkedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.authentication import Authentication

# What gRPC is told for each connection.
_GRPC_OPTIONS = [
    # Two connections of one process, with two tokens, are two.
    ("grpc.use_local_subchannel_pool", 1),
    # A host that vanishes says nothing: after so long without a byte it is asked, and after so long without an answer
    # the calls to it fail, as they do where nothing that is sent arrives. The gateway says something each ten seconds
    # while somebody waits, so it is not asked while all is well. It ends the connection of who asks it four times in a
    # row: nobody waits so long for a word of a transfer.
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Who waits sends nothing else, and would be allowed to ask twice in all.
    ("grpc.http2.max_pings_without_data", 0),
    # One that has just been started is not left alone for up to two minutes, because nobody was there before.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
# How long a fork waits for gRPC to end its threads after its last client was closed: for those that have its names, and
# that have taken more than a second on a busy machine, or else for those that may be another library's.
SHUTDOWN_SECONDS = 10.0
NAMELESS_SECONDS = 1.0
_GRPC_THREADS = ("grpc", "event_engine", "lifeguard", "timer_")


class FlightClient:
    """Calls the gateway from any thread.

    :param location: of the gateway, as Arrow Flight writes it.
    :param authentication: token and TLS.
    """

    def __init__(self, location: Any, authentication: Authentication) -> None:
        self._location = location
        self.authentication = authentication
        # Guards the client itself, so that two threads do not make one each, and the count of who uses it.
        self._lock = threading.Lock()
        self._client: Any = None
        self.users = 0
        _clients.add(self)

    def act(self, kind: str, message: dict[str, Any], timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield what the gateway says to an action, an empty message for each sign of life.

        :param timeout: seconds until all of it must have been said.
        """
        from pyarrow import flight

        with self.used() as client:
            for result in client.do_action(flight.Action(kind, packed(message)), self.options(timeout)):
                yield unpacked(result.body) if result.body.size else {}

    @contextmanager
    def used(self) -> Iterator[Any]:
        """Yield Arrow Flight's own client, which is not closed meanwhile.

        :raises RayForkedError: this process was forked from one that used Arrow Flight at that moment.
        """
        global _had_client
        with _forking, self._lock:
            if _is_forked_under_use:
                raise RayForkedError(
                    "This process was forked while its parent was calling the Ray cluster from another thread, and "
                    "cannot connect to it: Arrow Flight does not survive that. Start it with multiprocessing's "
                    "'spawn', or fork while nothing of airflow_ray is under way."
                )
            # Later, some of them may be gRPC's.
            if not _had_client:
                _of_others.update(_native_threads())
                _had_client = True
            # First, for who forks meanwhile.
            self.users += 1
        try:
            with self._lock:
                if self._client is None:
                    self._client = self._connected()
                client = self._client
            yield client
        finally:
            with self._lock:
                self.users -= 1

    def options(self, timeout: float | None = None) -> Any:
        """Return what goes with each call."""
        from pyarrow import flight

        headers = [(name.encode(), value.encode()) for name, value in self.authentication.metadata]
        return flight.FlightCallOptions(timeout=timeout, headers=headers)

    def close(self) -> None:
        """End the connection; the next call opens another one."""
        with self._lock:
            if self._client is not None:
                with suppress(Exception):
                    self._client.close()
                self._client = None

    def _connected(self) -> Any:
        from pyarrow import flight

        tls = self.authentication.tls
        options: dict[str, Any] = {}
        if tls is not None:
            options = {"tls_root_certs": tls.ca_cert, "cert_chain": tls.cert, "private_key": tls.key}
            options["override_hostname"] = tls.name
            options = {name: value for name, value in options.items() if value is not None}
        return flight.FlightClient(self._location, generic_options=_GRPC_OPTIONS, **options)


_clients: WeakSet[FlightClient] = WeakSet()
# Whether Arrow Flight was in use when this process was forked, and when it forks itself.
_is_forked_under_use = _forks_under_use = False
# Held while this process forks, so that nobody begins a call between the last look and the fork, and while a call
# begins, so that others' threads are noted before gRPC has any.
_forking = threading.Lock()
# Whether there was one since the last fork that has seen gRPC's end.
_had_client = False
# Threads that were there before gRPC's, by their ids.
_of_others: set[str] = set()
# What must not be collected in a child: Arrow Flight would wait for threads that are not there.
_of_parent: list[Any] = []


def _before_fork() -> None:
    """Close what is idle: threads of gRPC that a child lacks would let it wait for ever."""
    global _forks_under_use, _had_client
    _forking.acquire()
    clients = [client for client in list(_clients) if client._client is not None]
    for client in clients:
        if not client.users:
            client.close()
    # A child of one that is in use is told so by used(). One that was closed just now has threads for a while.
    _forks_under_use = any(client.users for client in list(_clients))
    if _had_client and not _forks_under_use:
        begun = time.monotonic()
        while time.monotonic() - begun < _seconds_of_end():
            time.sleep(0.005)
        _had_client = _forks_under_use = _are_of_grpc(_new_threads())


def _after_fork_in_child() -> None:
    global _is_forked_under_use, _had_client
    _forking.release()
    _had_client = False
    _is_forked_under_use = _is_forked_under_use or _forks_under_use
    _of_others.clear()
    for client in list(_clients):
        _of_parent.append(client._client)
        client._client, client.users, client._lock = None, 0, threading.Lock()


def _seconds_of_end() -> float:
    """Return how long a fork waits for the threads that gRPC has or, where they have no name yet, may have."""
    names = _new_threads()
    if _are_of_grpc(names):
        return SHUTDOWN_SECONDS
    return NAMELESS_SECONDS if names else 0.0


def _are_of_grpc(names: list[str]) -> bool:
    """Whether gRPC has named one of these threads."""
    return any(name.startswith(_GRPC_THREADS) for name in names)


def _new_threads() -> list[str]:
    """Return the names of the threads that have come since gRPC was begun with and are not Python's own."""
    return [name for number, name in _native_threads().items() if number not in _of_others]


def _native_threads() -> dict[str, str]:
    """Return ids and names of the threads that are not Python's own."""
    of_python = {str(thread.native_id) for thread in threading.enumerate()}
    names = {}
    for thread in Path("/proc/self/task").glob("*/comm"):
        # It may have ended just now.
        with suppress(OSError):
            names[thread.parent.name] = thread.read_text()
    return {number: name for number, name in names.items() if number not in of_python}


os.register_at_fork(before=_before_fork, after_in_parent=_forking.release, after_in_child=_after_fork_in_child)
