"""One connection for the many short calls of a process that is not made for Ray, such as a plain task."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from airflow_ray.client.client import RayClient
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


T = TypeVar("T")


# The head runs a process for each Ray Client.
LINGER_SECONDS = 10.0


_lock = threading.RLock()


_kept: dict[str, _KeptConnection] = {}


class _KeptConnection:
    """A connection that ends a while after its last use.

    As a driver it stays until the process ends: what was read is not copied but seen where it lies, and Ray may use the
    place again when the driver has gone.
    """

    def __init__(self, conn_id: str) -> None:
        self._stack = ExitStack()
        self.client = self._stack.enter_context(RayClient(conn_id).connect())
        self._timer: threading.Timer | None = None

    @contextmanager
    def in_use(self) -> Iterator[RayClient]:
        if self._timer is not None:
            self._timer.cancel()
        yield self.client
        if self.client.settings.mode == "client":
            self._timer = threading.Timer(LINGER_SECONDS, close, [self.client.conn_id])
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stack.close()


def call(conn_id: str, function: Callable[[RayClient], T]) -> T:
    """Return what ``function`` returns for a connected client, over the connection that is there or else a new one.

    :raises RayConnectionError: no connection could be made.
    """
    with _lock:
        is_kept = conn_id in _kept
        try:
            return _called(conn_id, function)
        except RayConnectionError:
            close(conn_id)
            # One that was idle may have been broken for long.
            if not is_kept:
                raise
            return _called(conn_id, function)


def close(conn_id: str) -> None:
    """End the connection, if there is one."""
    with _lock:
        kept = _kept.pop(conn_id, None)
        if kept is not None:
            kept.close()


def _called(conn_id: str, function: Callable[[RayClient], T]) -> T:
    if conn_id not in _kept:
        _kept[conn_id] = _KeptConnection(conn_id)
    with _kept[conn_id].in_use() as client:
        return function(client)
