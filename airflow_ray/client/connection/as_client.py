"""The way in as a Ray Client: from anywhere, over one port."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection import gateway_session
from airflow_ray.client.connection.probe import probe_client_server
from airflow_ray.client.connection.ray_session import RaySession
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import tries
from airflow_ray.client.connection.session import give_up
from airflow_ray.client.connection.threads import connect_within, run_in_thread
from airflow_ray.client.forks import cached_property
from airflow_ray.client.transfer import streams, values
from airflow_ray.exceptions import RayConnectionError, RayPicklingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_ray.client.connection.authentication import Authentication
    from airflow_ray.client.connection.gateway_session import GatewaySession
    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI


# From here on the gateway, which has to be looked for first, takes less time than Ray Client.
LARGE_BYTES = 32_000_000
GOODBYE_SECONDS = 5.0
LOST_AT_ONCE = "the connection was lost as soon as it was made"
# Ray starts a process for each client. That it crashes while it starts, or is not there after Ray's own 30 seconds on a
# busy head, is known and worth another try.
FAILED_STARTS = (
    "Starting Ray client server failed",
    "session that has already been cleaned up",
    "Proxy failed to Connect to backend",
    LOST_AT_ONCE,
)
log = logging.getLogger(__name__)


class ClientSession(RaySession):
    """An open connection as a Ray Client; what is large goes through the gateway where that can be reached.

    :param settings: of the connection.
    """

    copies_values = True

    def __init__(
        self, settings: RaySettings, active: Callable[[], AbstractContextManager[Any]], deadline: float
    ) -> None:
        super().__init__(settings.namespace, active, deadline)
        self._settings = settings
        self._beside = ExitStack()

    @cached_property
    def _gateway(self) -> GatewaySession | None:
        owner_id = self.owner.actor_ref.id.hex()
        gateway = self._beside.enter_context(gateway_session.open_beside(self._settings, owner_id))
        if gateway is not None:
            log.info("Large values go through the gateway at %s", gateway.peer.where)
        return gateway

    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Bring a value to the cluster."""
        apart, objects = values.take_apart(self, value)
        if not objects and (name := self._sent_beside(apart)) is not None:
            return name, []
        return values.put(self, apart), objects

    def _fetch(self, uri: ObjectURI) -> Any:
        ref, size = self.find(uri)
        if size >= LARGE_BYTES and self._gateway is not None:
            with self._or_without():
                return streams.fetch(self._gateway, uri, give_up)
        return values.fetch(self, uri, ref)

    def _sent_beside(self, value: Any) -> str | None:
        """Send a value through the gateway and return its name, or None where that is not its way."""
        try:
            departing = streams.departing(value)
        # Ray's own pickler may know how.
        except RayPicklingError:
            return None
        if sum(departing.sizes) >= LARGE_BYTES and self._gateway is not None:
            with self._or_without():
                return streams.send(self._gateway, departing, give_up)
        return None

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on as a Ray Client where the gateway breaks off."""
        try:
            yield
        except RayConnectionError as error:
            log.warning("%s Going on over Ray Client.", sentence_of(error))
            self._gateway = None

    def close(self) -> None:
        """End the connection to the gateway, where there is one."""
        self._beside.close()


@contextmanager
def open_session(settings: RaySettings) -> Iterator[ClientSession]:
    """Connect as a Ray Client.

    :raises RayConnectionError: it did not come to that in time; the subclass and the text tell why.
    """
    from ray.util.client import ray as client_stub

    deadline = time.monotonic() + settings.connect_timeout
    probe_client_server(settings.address, settings.authentication, deadline)
    handler = _connected(settings.address, settings.authentication, settings.namespace, deadline)

    @contextmanager
    def active() -> Iterator[None]:
        previous = client_stub.set_context(handler)
        try:
            yield
        finally:
            client_stub.set_context(previous)

    try:
        with closing(ClientSession(settings, active, deadline)) as session:
            yield session
    finally:
        _disconnect(handler)


class _ClientMode:
    """Counts who needs Ray's client mode, a switch for the whole process.

    Ray itself switches it off when the last client leaves, also while another one connects, whose calls would then go
    to a driver. It would also let all others wait while one leaves or connects; this lock is only held for the count.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def need(self) -> None:
        """Count one who is about to connect, and so switches it on."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Count one less, and switch it off after the last one."""
        from ray._private.client_mode_hook import _explicitly_disable_client_mode
        from ray.util import client

        with self._lock, client._lock:
            self._users -= 1
            # Ray's own notes of connections. Of one that was lost at once it has told nobody.
            client._all_contexts = {each for each in client._all_contexts if each.is_connected()}
            if not (self._users or client._all_contexts):
                _explicitly_disable_client_mode()


_client_mode = _ClientMode()


def _connected(address: str, authentication: Authentication, namespace: str, deadline: float) -> Any:
    """Return Ray's handler of a new connection."""
    failure = ""

    def connect() -> Any:
        nonlocal failure
        try:
            return connect_within(
                max(0.1, deadline - time.monotonic()),
                address,
                lambda: _init_client(address, authentication, namespace),
                _disconnect,
                failure,
            )
        except RayConnectionError as error:
            failure = str(error)
            raise

    return tries(deadline - time.monotonic(), _is_failed_start)(connect)


def _is_failed_start(error: BaseException) -> bool:
    return any(sign in str(error) for sign in FAILED_STARTS)


def _init_client(address: str, authentication: Authentication, namespace: str) -> Any:
    import ray

    _client_mode.need()
    try:
        context = ray.init(
            f"ray://{address}",
            namespace=namespace,
            allow_multiple=True,
            _credentials=authentication.credentials,
            _metadata=authentication.metadata,
        )
    except BaseException as error:
        _client_mode.leave()
        # Ray asserts that there is a connection after it has made one.
        if isinstance(error, AssertionError):
            raise ConnectionError(LOST_AT_ONCE) from error
        raise
    return context._context_to_restore


def _disconnect(handler: Any) -> None:
    # A connection that broke cannot say goodbye, or only after long.
    with suppress(Exception):
        run_in_thread(handler.disconnect, GOODBYE_SECONDS)
    _client_mode.leave()
