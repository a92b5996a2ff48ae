"""An open connection to the gateway, for each way in that uses it; Ray is not needed in this process."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.flight_client import FlightClient
from airflow_ray.client.connection.peer import Peer, details_of, listens
from airflow_ray.client.connection.session import Session, is_unknown_owner, owner_died
from airflow_ray.client.connection.signs import Signs
from airflow_ray.client.transfer import streams
from airflow_ray.cluster.gateway.flight import error_of
from airflow_ray.cluster.gateway.settings import PORT
from airflow_ray.cluster.protocol import RefusalKind
from airflow_ray.cluster.values.cloudpickles import difference, release_of_airflow
from airflow_ray.exceptions import AirflowRayError, RayAuthenticationError, RayConnectionError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.connection.threads import T
    from airflow_ray.object_uri import ObjectURI

# The gateway gives a sign of life each ten seconds while somebody waits.
SILENT_SECONDS = 30.0
# In which a port answers that another way in would use: one that is filtered says nothing.
BESIDE_SECONDS = 2.0
# In which the gateway that listens there says who it is: where all processors are busy, two seconds were too few.
GREETING_SECONDS = 15.0

log = logging.getLogger(__name__)


class GatewaySession(Session):
    """An open connection to the gateway.

    :param peer: the gateway, which has been greeted.
    :param call_seconds: within which each call must have its answer; None for as long as there are signs of life.
    :param is_look: no call is use of the cluster, which may be kept for that.
    """

    def __init__(self, peer: Peer, call_seconds: float | None = None, is_look: bool = False) -> None:
        self.peer = peer
        self._call_seconds = call_seconds
        self._is_look = is_look
        self._signs = Signs()

    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once."""
        message = {**self.peer.owner, "method": method, "args": args, "kwargs": kwargs, "is_look": self._is_look}

        def answer(note: Callable[[], None]) -> Any:
            answers = []
            with self.translate_errors():
                for told in self.peer.client.act("call", message, self._call_seconds):
                    note()
                    answers = [told]
            return answers[0]["answer"]

        return self.start(answer)

    def start(self, function: Callable[[Callable[..., None]], T], seconds: float = SILENT_SECONDS) -> Future[T]:
        """Run what uses the connection in a thread of its own; see :meth:`Signs.start`."""
        return self._signs.start(function, seconds)

    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Copy a value to the cluster; where the connection breaks, it begins again."""
        return streams.send(self, streams.departing(value), connect_again), []

    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Copy an object from the cluster; where the connection breaks, it begins again."""
        return streams.fetch(self, uri, connect_again)

    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""

        def greet(_note: Callable[[], None]) -> dict[str, Any]:
            with self.translate_errors():
                (greeting,) = self.peer.client.act("greet", self.peer.owner)
            return greeting

        return [name for name in self.start(greet).result()["others"] if is_unknown_owner(name)]

    def require_same_python(self) -> None:
        """See :meth:`Session.require_same_python`."""
        theirs, ours = self.peer.greeting["python"], ".".join(map(str, sys.version_info[:3]))
        if theirs.split(".")[:2] != ours.split(".")[:2]:
            raise RayVersionMismatchError(
                f"The Ray cluster at {self.peer.where} runs Python {theirs} and this process Python {ours}: a callable "
                "runs only where the first two numbers are the same. Nothing was sent. Use the same Python for Airflow "
                "and for the cluster's image."
            )
        if words := difference(release_of_airflow(), self.peer.greeting["cloudpickle"]):
            raise RayVersionMismatchError(f"{words} Nothing was sent.")

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise what :meth:`call` does in place of what Arrow Flight raises."""
        from pyarrow import ArrowException, flight

        try:
            yield
        except flight.FlightUnauthenticatedError as error:
            raise RayAuthenticationError(
                f"The gateway of the Ray cluster at {self.peer.where} no longer takes the password of the connection. "
                "Set the cluster's token."
            ) from error
        except flight.FlightServerError as error:
            told = error_of(error)
            if told is None:
                raise RayConnectionError(f"The connection to the Ray cluster broke: {details_of(error)}.") from error
            if told["kind"] == RefusalKind.OWNER_DIED:
                raise owner_died(self.peer.namespace, told["message"]) from error
            if told["kind"] == RefusalKind.BROKEN:
                raise RayConnectionError(f"What the gateway was doing broke off: {told['message']}.") from error
            if told["kind"] == RefusalKind.REFUSED:
                raise AirflowRayError(f"The Ray cluster refuses what it was asked: {told['message']}") from error
            raise streams.TransferFailure(told) from error
        except (ArrowException, OSError) as error:
            raise RayConnectionError(f"The connection to the Ray cluster broke: {details_of(error)}.") from error


@contextmanager
def open_beside(settings: RaySettings, owner_id: str) -> Iterator[GatewaySession | None]:
    """Connect to the gateway of a cluster that another way in has led to, or yield None where it cannot be reached.

    :param owner_id: Ray's id of the owner: the gateway at that port may be of another cluster.
    """
    peer = peer_at(f"{settings.host}:{PORT}", settings)
    try:
        yield GatewaySession(peer) if _leads_to(peer, owner_id) else None
    finally:
        peer.client.close()


def _leads_to(peer: Peer, owner_id: str) -> bool:
    if not listens(peer.where, BESIDE_SECONDS):
        return False
    try:
        peer.greet(GREETING_SECONDS)
    except RayConnectionError as error:
        log.info("Large values do not go through the gateway. %s", error)
        return False
    return bool(peer.greeting["owner"] == owner_id)


def peer_at(where: str, settings: RaySettings) -> Peer:
    """Return the gateway at an address, which is not asked for anything yet."""
    from pyarrow import flight

    scheme = flight.Location.for_grpc_tls if settings.authentication.tls else flight.Location.for_grpc_tcp
    host, _, port = where.rpartition(":")
    if ":" in host:
        # As an address of version 6 stands in a URI.
        host = f"[{host.strip('[]')}]"
    return Peer(FlightClient(scheme(host, int(port)), settings.authentication), where, settings.namespace)


@contextmanager
def opened(peer: Peer, deadline: float, start: Callable[[], None]) -> Iterator[None]:
    """Greet a gateway, and close its client in the end.

    :param deadline: until when it must answer, by the monotonic clock.
    :param start: starts gateway and owner.
    """
    try:
        peer.meet(deadline, start)
        yield
    finally:
        peer.client.close()
