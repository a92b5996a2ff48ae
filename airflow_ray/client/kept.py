"""One connection to a cluster for the many short calls of a process that is not made for Ray, such as a plain task."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from airflow_ray.client.client import RayClient
from airflow_ray.client.connection.clusters import Cluster, cluster_of
from airflow_ray.client.connection.link import Link
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI

T = TypeVar("T")
# The head runs a process for each Ray Client.
LINGER_SECONDS = 10.0


class _KeptConnection:
    """A connection to one cluster, which is made when it is needed and ends a while after its last use."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # A value that is read may itself lead to a call, in the same thread.
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._client: RayClient | None = None
        self._timer: threading.Timer | None = None

    def call(self, function: Callable[[RayClient], T]) -> T:
        """Return what ``function`` returns for a connected client."""
        if not self._lock.acquire(blocking=False):
            # Another thread uses it, perhaps for long: a connection belongs to one thread.
            with RayClient(*self._cluster).connect() as client:
                return function(client)
        try:
            self._stop_timer()
            return self._called(function)
        finally:
            self._start_timer()
            self._lock.release()

    def close(self) -> None:
        """End the connection, if there is one, when nobody uses it any more."""
        with self._lock:
            self._end()

    def _called(self, function: Callable[[RayClient], T]) -> T:
        while True:
            # One that was idle may have been broken for long.
            was_there = self._client is not None
            try:
                return function(self._connected())
            except (RayConnectionError, RayOwnerDiedError):
                self._end()
                if not was_there:
                    raise

    def _connected(self) -> RayClient:
        if self._client is None:
            self._client = self._stack.enter_context(RayClient(*self._cluster).connect())
        return self._client

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = threading.Timer(LINGER_SECONDS, self._end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end_if_idle(self) -> None:
        # Whoever uses it sets the timer again in the end.
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        self._stop_timer()
        self._client = None
        self._stack.close()
        # It may have been changed when the next one is made.
        _connections.pop(self._cluster.conn_id, None)


# What the connections say from which clusters there are connections: each value would ask Airflow for it.
_connections: dict[str, RaySettings] = {}
_kept: dict[Cluster, _KeptConnection] = {}


def call(uri: ObjectURI, function: Callable[[RayClient], T]) -> T:
    """Return what ``function`` returns for a client that is connected to the cluster of an object.

    The connection is the one that is there, or else a new one.

    :raises RayConnectionError: no connection could be made.
    """
    connection = _connections.get(uri.conn_id)
    if connection is None:
        connection = _connections[uri.conn_id] = Link(uri.conn_id).connection
    cluster = cluster_of(connection, uri.dag_id, uri.run_id)
    # In one step, so that two threads get the same one.
    return _kept.setdefault(cluster, _KeptConnection(cluster)).call(function)


def close(conn_id: str) -> None:
    """End the connections, if there are any."""
    for cluster, connection in list(_kept.items()):
        if cluster.conn_id == conn_id:
            connection.close()
