"""The way in for who only looks: to what runs already, within a deadline, and without Ray in this process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from airflow_ray._compat import BaseHook
from airflow_ray.client.connection import local_head
from airflow_ray.client.connection.gateway_session import GatewaySession, peer_at
from airflow_ray.client.connection.gateway_start import require_token
from airflow_ray.client.connection.link import Link
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.connection.threads import await_result
from airflow_ray.client.forks import cached_property
from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.gateway.settings import PORT
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.connection.peer import Peer
    from airflow_ray.client.connection.settings import RaySettings

# What an owner answers that has nothing.
_NOTHING: dict[str, Callable[[], Any]] = {
    "cancel": lambda: False,
    "describe": lambda: None,
    "list_objects": list,
    "release": list,
    "sample": lambda: {"error": failure(FailureKind.NO_OBJECT, state=None)},
}


class LookingLink(Link):
    """Calls the owner through a gateway that runs; where none does, none is started.

    An owner ends when it has had nothing for a while. Where there is none, this answers as one that has nothing.

    :param conn_id: Airflow connection of type ``ray``, of any mode.
    :param seconds: within which all must be said.
    """

    def __init__(self, conn_id: str, seconds: float) -> None:
        super().__init__(conn_id)
        self._deadline = time.monotonic() + seconds

    @cached_property
    def connection(self) -> RaySettings:
        """See :class:`Link`; whoever tells where a cluster is has less time as well."""
        return settings_of(BaseHook.get_connection(self.conn_id), self._left() / 2)

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[None]:
        # Of who tells where it is, the reason for not knowing is to come in time too.
        peer = _peer(self._settings_within(min(seconds, self._left() / 2)).located())
        try:
            peer.find(self._deadline)
            self._session = GatewaySession(peer, self._left(), is_look=True)
            yield
        finally:
            self._session = None
            peer.client.close()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer, which is no use of the cluster.

        :raises RayConnectionError: there is no connection, or it broke, or what is there is of another release.
        :raises TimeoutError: the answer had not come before the deadline.
        """
        with self.connect():
            if not self._peer.greeting["owner"]:
                _require_nobody_else(self._peer)
                return _NOTHING[method]()
            try:
                return await_result(self.session.begin(method, *args, **kwargs), self._left())
            except RayOwnerDiedError:
                # With it went all that it had, if it had anything.
                return _NOTHING[method]()

    def survey(self) -> dict[str, Any]:
        """Return the versions of the cluster, its nodes, and its resources in all and those that are free.

        :raises RayConnectionError: there is no connection, or it broke.
        """
        with self.connect():
            return self._peer.survey(self._deadline)

    @property
    def _peer(self) -> Peer:
        return cast("GatewaySession", self.session).peer

    def _left(self) -> float:
        return max(0.1, self._deadline - time.monotonic())


def _require_nobody_else(peer: Peer) -> None:
    """Make sure that there is no owner of another release, which has what this one does not know.

    :raises RayConnectionError: there is one.
    """
    if peer.greeting["others"]:
        raise RayConnectionError(
            f"In the Ray cluster at {peer.where} tasks of another release of airflow-ray have run, in namespace "
            f"{peer.namespace!r}. What is held there is shown as soon as a task of this release has run there too."
        )


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
