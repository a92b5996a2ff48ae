"""The way in for who only looks: to what runs already, within a deadline, and without Ray in this process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection import local_head
from airflow_ray.client.connection.gateway_session import GatewaySession, peer_at
from airflow_ray.client.connection.gateway_start import require_token
from airflow_ray.client.connection.link import Link
from airflow_ray.client.connection.threads import await_result
from airflow_ray.cluster.gateway.settings import PORT
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.peer import Peer
    from airflow_ray.client.connection.settings import RaySettings


class LookingLink(Link):
    """Calls the owner through a gateway that runs; where none does, none is started.

    :param conn_id: Airflow connection of type ``ray``, of any mode.
    :param seconds: within which all must be said.
    """

    def __init__(self, conn_id: str, seconds: float) -> None:
        super().__init__(conn_id)
        self._deadline = time.monotonic() + seconds

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[None]:
        # Of who tells where it is, the reason for not knowing is to come in time too.
        peer = _peer(self._settings_within(min(seconds, self._left() / 2)).located())
        try:
            peer.find(self._deadline)
            self._session = GatewaySession(peer, self._left())
            yield
        finally:
            self._session = None
            peer.client.close()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer.

        :raises RayConnectionError: there is no connection, or it broke.
        :raises TimeoutError: the answer had not come before the deadline.
        """
        with self.connect():
            return await_result(self.session.begin(method, *args, **kwargs), self._left())

    def _left(self) -> float:
        return max(0.1, self._deadline - time.monotonic())


def _peer(settings: RaySettings) -> Peer:
    if settings.mode == "local":
        head = local_head.running()
        if head is None:
            raise RayConnectionError("No embedded Ray runs on this machine: the first task that needs it starts it.")
        return local_head.peer_of(head, settings)
    if settings.mode == "gateway":
        require_token(settings)
        return peer_at(settings.address, settings)
    if not settings.host:
        raise RayConnectionError("The connection names no host, and this machine does not join a cluster as a driver.")
    # Which a task has started there, or nobody.
    return peer_at(f"{settings.host}:{PORT}", settings)
