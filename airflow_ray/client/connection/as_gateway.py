"""The way in through the gateway: from anywhere, over one port, without Ray in this process."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray import __version__
from airflow_ray.client.build import own_build
from airflow_ray.client.connection.bundle import bundle
from airflow_ray.client.connection.flight_client import FlightClient
from airflow_ray.client.connection.gateway_start import ensure_started, require_token
from airflow_ray.client.connection.probe import PROBE_SECONDS, connection_error
from airflow_ray.client.connection.retrying import tries
from airflow_ray.client.connection.session import Session, is_unknown_owner, owner_died
from airflow_ray.client.connection.signs import Signs
from airflow_ray.client.connection.threads import run_in_thread
from airflow_ray.client.transfer import streams
from airflow_ray.cluster.gateway.flight import error_of
from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION, FailureKind
from airflow_ray.exceptions import AirflowRayError, RayAuthenticationError, RayConnectionError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from airflow_ray.client.connection.authentication import Authentication
    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.connection.threads import T
    from airflow_ray.object_uri import ObjectURI

# The gateway gives a sign of life each ten seconds while somebody waits.
SILENT_SECONDS = 30.0
# What Arrow Flight puts around the words of gRPC.
_FLIGHT = re.compile(
    r"^Flight \w+ \w+(?: \w+)* error, with message: (?P<details>.*?)(?:\. gRPC client debug .*)?$", re.S
)


class GatewaySession(Session):
    """An open connection to the gateway.

    :param client: of the gateway.
    :param where: the gateway's address.
    :param namespace: of the owner.
    :param greeting: what the gateway says of itself.
    """

    def __init__(self, client: FlightClient, where: str, namespace: str, greeting: dict[str, Any]) -> None:
        self.client = client
        self._where = where
        self._namespace = namespace
        self._greeting = greeting
        self._signs = Signs()

    @property
    def owner(self) -> dict[str, str]:
        """What each message names the owner by."""
        return owner_of(self._namespace)

    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once."""
        message = {**self.owner, "method": method, "args": args, "kwargs": kwargs}

        def answer(note: Callable[[], None]) -> Any:
            told: dict[str, Any] = {}
            with self.translate_errors():
                for told in self.client.act("call", message):
                    note()
            return told.get("answer")

        return self.start(answer)

    def start(self, function: Callable[[Callable[[], None]], T], seconds: float = SILENT_SECONDS) -> Future[T]:
        """Run what uses the connection in a thread of its own; see :meth:`Signs.start`."""
        return self._signs.start(function, seconds)

    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Copy a value to the cluster; where the connection breaks, it begins again."""
        return streams.send(self, value, connect_again), []

    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Copy an object from the cluster; where the connection breaks, it begins again."""
        return streams.fetch(self, uri, connect_again)

    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""
        return [name for name in self._greeting["others"] if is_unknown_owner(name)]

    def require_same_python(self) -> None:
        """See :meth:`Session.require_same_python`."""
        theirs, ours = self._greeting["python"], ".".join(map(str, sys.version_info[:3]))
        if theirs.split(".")[:2] != ours.split(".")[:2]:
            raise RayVersionMismatchError(
                f"The Ray cluster at {self._where} runs Python {theirs} and this process Python {ours}: a callable runs "
                "only where the first two numbers are the same. Nothing was sent. Use the same Python for Airflow and "
                "for the cluster's image."
            )

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise what :meth:`call` does in place of what Arrow Flight raises."""
        from pyarrow import ArrowException, flight

        try:
            yield
        except flight.FlightUnauthenticatedError as error:
            raise RayAuthenticationError(
                f"The gateway of the Ray cluster at {self._where} no longer takes the password of the connection. Set "
                "the cluster's token."
            ) from error
        except flight.FlightServerError as error:
            told = error_of(error)
            if told is None:
                raise RayConnectionError(f"The connection to the Ray cluster broke: {details_of(error)}.") from error
            if told["kind"] == FailureKind.OWNER_DIED:
                raise owner_died(self._namespace, told["message"]) from error
            if told["kind"] == FailureKind.BROKEN:
                raise RayConnectionError(f"The transfer broke off: {told['message']}.") from error
            if told["kind"] == FailureKind.REFUSED:
                raise AirflowRayError(f"The Ray cluster refuses what it was asked: {told['message']}") from error
            raise streams.TransferFailure(told) from error
        except (ArrowException, OSError) as error:
            raise RayConnectionError(f"The connection to the Ray cluster broke: {details_of(error)}.") from error


@contextmanager
def open_session(settings: RaySettings) -> Iterator[GatewaySession]:
    """Connect to the gateway of a cluster, which is started where none answers.

    :raises RayConnectionError: it did not come to that in time; the subclass and the text tell why.
    """
    from pyarrow import flight

    require_token(settings)
    scheme = flight.Location.for_grpc_tls if settings.authentication.tls else flight.Location.for_grpc_tcp
    host, _, port = settings.address.rpartition(":")
    location = scheme(host, int(port))
    deadline = time.monotonic() + settings.connect_timeout

    def start() -> None:
        ensure_started(settings, deadline)

    with session_at(
        location, settings.address, settings.authentication, settings.namespace, deadline, start
    ) as session:
        yield session


@contextmanager
def session_at(
    location: Any,
    where: str,
    authentication: Authentication,
    namespace: str,
    deadline: float,
    start: Callable[[], None],
) -> Iterator[GatewaySession]:
    """Connect to the gateway at a location.

    :param where: how it is called in errors.
    :param deadline: until when it must answer, by the monotonic clock.
    :param start: starts the gateway, the owner, or both.
    """
    client = FlightClient(location, authentication)
    try:
        yield GatewaySession(
            client, where, namespace, _greeting_of(client, where, authentication, namespace, deadline, start)
        )
    finally:
        client.close()


def owner_of(namespace: str) -> dict[str, str]:
    """Return what a message names the owner of a namespace by."""
    return {"namespace": namespace, "owner": own_build().owner_name}


def _greeting_of(
    client: FlightClient,
    where: str,
    authentication: Authentication,
    namespace: str,
    deadline: float,
    start: Callable[[], None],
) -> dict[str, Any]:
    """Return what the gateway says of itself, once it and the owner are there."""

    def greet() -> dict[str, Any]:
        return _greet(client, where, authentication, namespace, deadline)

    try:
        greeting = greet()
        is_too_old = greeting["messages"] < OLDEST_MESSAGES_VERSION
    except RayConnectionError as error:
        # Whoever refuses us is there.
        if type(error) is not RayConnectionError:
            raise
        is_too_old = True
    if is_too_old:
        start()
        greeting = tries(max(0.1, deadline - time.monotonic()))(greet)
    if greeting["oldest_messages"] > MESSAGES_VERSION or greeting["messages"] < OLDEST_MESSAGES_VERSION:
        raise RayVersionMismatchError(
            f"The gateway at {where} is of airflow-ray {greeting['release']}, which does not understand this release, "
            f"{__version__}. Upgrade airflow-ray here, or end the gateway there so that this one starts its own."
        )
    if not greeting["owner"]:
        _start_owner(client, where, authentication, namespace, deadline)
    return greeting


def _greet(
    client: FlightClient, where: str, authentication: Authentication, namespace: str, deadline: float
) -> dict[str, Any]:
    timeout = min(PROBE_SECONDS, max(0.1, deadline - time.monotonic()))
    with _first_call(where, authentication):
        (greeting,) = run_in_thread(lambda: list(client.act("greet", owner_of(namespace), timeout)))
    return greeting


def _start_owner(
    client: FlightClient, where: str, authentication: Authentication, namespace: str, deadline: float
) -> None:
    """Let the gateway start the owner of this build, which it has not got yet."""
    message = {**owner_of(namespace), "bundle": bundle()}
    with _first_call(where, authentication):
        run_in_thread(lambda: list(client.act("start", message, max(1.0, deadline - time.monotonic()))))


@contextmanager
def _first_call(where: str, authentication: Authentication) -> Iterator[None]:
    from pyarrow import ArrowException, ArrowNotImplementedError, flight

    codes = [
        (flight.FlightUnauthenticatedError, "UNAUTHENTICATED"),
        (flight.FlightTimedOutError, "DEADLINE_EXCEEDED"),
        (flight.FlightUnavailableError, "UNAVAILABLE"),
        (ArrowNotImplementedError, "UNIMPLEMENTED"),
    ]
    try:
        yield
    except flight.FlightServerError as error:
        told = error_of(error) or {}
        raise RayConnectionError(
            f"The gateway of the Ray cluster at {where} cannot start what runs the work there: "
            f"{told.get('message') or details_of(error)}"
        ) from error
    except (ArrowException, OSError) as error:
        code = next((code for cls, code in codes if isinstance(error, cls)), "UNKNOWN")
        name = f"the gateway of the Ray cluster at {where}"
        raise connection_error(name, where, authentication, code, details_of(error)) from error


def details_of(error: BaseException) -> str:
    """Return what gRPC says of an error of Arrow Flight's, without what that puts around it."""
    text = str(error)
    found = _FLIGHT.match(text)
    return found["details"] if found else text
