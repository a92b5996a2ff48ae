"""The gateway at the other end, and the first words with it."""

from __future__ import annotations

import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray import __version__
from airflow_ray.client.connection.bundle import bundle
from airflow_ray.client.connection.probe import PROBE_SECONDS, connection_error
from airflow_ray.client.connection.reasons import plain_details
from airflow_ray.client.connection.retrying import is_passing, tries
from airflow_ray.client.connection.threads import run_in_thread
from airflow_ray.cluster.build import own_build
from airflow_ray.cluster.gateway.flight import error_of
from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION
from airflow_ray.exceptions import RayConnectionError, RayTLSError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.connection.flight_client import FlightClient

# What Arrow Flight puts around the words of gRPC.
_FLIGHT = re.compile(
    r"^Flight \w+ \w+(?: \w+)* error, with message: (?P<details>.*?)(?:\. gRPC client debug .*)?$", re.S
)


# In which a gateway that has ended is there again, where somebody keeps it: on a machine where all processors are busy
# that took more than five seconds.
RESTART_SECONDS = 15.0
# What gRPC says where nobody is there, or no packet comes through.
UNANSWERED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class _NothingAnswersError(RayConnectionError):
    """Nobody listens there, or nothing comes through."""


class Peer:
    """A gateway, and the owner of one namespace behind it.

    :param client: of the gateway.
    :param where: the gateway's address, for errors.
    :param namespace: of the owner.

    ``greeting`` is what the gateway says of itself, once it has been met.
    """

    def __init__(self, client: FlightClient, where: str, namespace: str) -> None:
        self.client = client
        self.where = where
        self.namespace = namespace
        self.greeting: dict[str, Any] = {}

    @property
    def owner(self) -> dict[str, str]:
        """What each message names the owner by."""
        return {"namespace": self.namespace, "owner": own_build().owner_name}

    def meet(self, deadline: float, start: Callable[[], None]) -> None:
        """Greet the gateway, and have it started where nothing answers, and the owner where it has none of ours.

        :param deadline: until when all must be there, by the monotonic clock.
        :param start: starts both.
        :raises RayConnectionError: they are not; the subclass and the text tell why.
        """
        try:
            self.greet(_probe_seconds(deadline))
            is_needed = self.greeting["messages"] < OLDEST_MESSAGES_VERSION
            if self.greeting["owner"] and not is_needed:
                self._require_common_messages()
                return
        except _NothingAnswersError:
            is_needed = True
        # It is there, and busy or just starting.
        except RayConnectionError as error:
            if not is_passing(error):
                raise
            is_needed = False
        if is_needed:
            self._start(start, deadline)
        # A gateway of an older release ends when the owner of a newer one is started, and so does the call for that.
        try:
            tries(max(0.1, deadline - time.monotonic()), _may_pass)(lambda: self._ensure_owner(deadline))
        except _NothingAnswersError as error:
            raise RayConnectionError(str(error)) from error

    def find(self, deadline: float) -> None:
        """Greet a gateway that runs, whether or not an owner of ours is behind it; nothing is started.

        :param deadline: until when it must answer, by the monotonic clock.
        :raises RayConnectionError: it does not; the subclass and the text tell why.
        """
        try:
            self.greet(max(0.1, deadline - time.monotonic()))
        except _NothingAnswersError as error:
            raise RayConnectionError(str(error)) from error
        self._require_common_messages()

    def _start(self, start: Callable[[], None], deadline: float) -> None:
        """Start the gateway, unless whoever keeps it starts it again just now."""
        try:
            start()
        except RayConnectionError as error:
            if not is_passing(error):
                raise
            try:
                seconds = max(0.1, min(RESTART_SECONDS, deadline - time.monotonic()))
                tries(seconds)(lambda: self.greet(PROBE_SECONDS))
            except RayConnectionError:
                raise error from None

    def _ensure_owner(self, deadline: float) -> None:
        self.greet(_probe_seconds(deadline))
        self._require_common_messages()
        if not self.greeting["owner"]:
            self._start_owner(max(1.0, deadline - time.monotonic()))
            self.greet(_probe_seconds(deadline))
            # Ray may know one that has just died for a moment.
            if not self.greeting["owner"]:
                raise RayConnectionError(f"The process that runs the work on the Ray cluster at {self.where} ended.")

    def _start_owner(self, seconds: float) -> None:
        from pyarrow import flight

        try:
            self._told("start", {**self.owner, "bundle": bundle()}, seconds)
        except RayConnectionError as error:
            # It has been greeted just now.
            if not isinstance(error.__cause__, flight.FlightTimedOutError):
                raise
            raise RayConnectionError(
                f"The gateway of the Ray cluster at {self.where} answers, and the process that runs the work has not "
                f"started there within {seconds:.0f} s. The head may be busy: the start goes on, and the next try of "
                "the task finds it. Set a longer connect_timeout in the connection, such as 300, to wait for it."
            ) from error

    def _require_common_messages(self) -> None:
        theirs = range(self.greeting["oldest_messages"], self.greeting["messages"] + 1)
        if not set(theirs).intersection(range(OLDEST_MESSAGES_VERSION, MESSAGES_VERSION + 1)):
            raise RayVersionMismatchError(
                f"The gateway at {self.where} is of airflow-ray {self.greeting['release']}, and this release, "
                f"{__version__}, does not understand it. Upgrade airflow-ray on the side that is older: a gateway of "
                "the newer release takes the place of an older one when it is started."
            )

    def greet(self, seconds: float) -> None:
        """Ask the gateway who it is.

        :param seconds: in which it must answer.
        :raises RayConnectionError: it did not; the subclass and the text tell why.
        """
        (self.greeting,) = self._told("greet", self.owner, seconds)

    def survey(self, deadline: float) -> dict[str, Any]:
        """Return the versions of the cluster, its nodes, and its resources in all and those that are free.

        :param deadline: until when the gateway must answer, by the monotonic clock.
        :raises RayConnectionError: it did not; the subclass and the text tell why.
        """
        (seen,) = self._told("survey", {}, max(0.1, deadline - time.monotonic()))
        return seen

    def _told(self, kind: str, message: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
        with self._words_for_errors():
            return run_in_thread(lambda: list(self.client.act(kind, message, timeout)))

    @contextmanager
    def _words_for_errors(self) -> Iterator[None]:
        from pyarrow import ArrowException, ArrowNotImplementedError, flight

        codes: list[tuple[type[Exception], str]] = [
            (flight.FlightUnauthenticatedError, "UNAUTHENTICATED"),
            (flight.FlightTimedOutError, "DEADLINE_EXCEEDED"),
            (flight.FlightUnavailableError, "UNAVAILABLE"),
            (ArrowNotImplementedError, "UNIMPLEMENTED"),
        ]
        name = f"the gateway of the Ray cluster at {self.where}"
        try:
            yield
        except flight.FlightServerError as error:
            told = error_of(error) or {}
            reason = told.get("message") or details_of(error)
            raise RayConnectionError(f"Connected to {name}, which cannot do what it was asked: {reason}") from error
        except (ArrowException, OSError) as error:
            code = next((code for cls, code in codes if isinstance(error, cls)), "UNKNOWN")
            told_error = connection_error(name, self.where, self.client.authentication, code, details_of(error))
            if type(told_error) is RayConnectionError and code in UNANSWERED and not listens(self.where):
                raise _NothingAnswersError(str(told_error)) from error
            raise told_error from error


def _probe_seconds(deadline: float) -> float:
    """In how many seconds a gateway answers, as long as there is time for it."""
    return min(PROBE_SECONDS, max(0.1, deadline - time.monotonic()))


def _may_pass(error: BaseException) -> bool:
    """Whether a gateway that was greeted before may answer the next time; TLS that has failed twice fails again."""
    return is_passing(error) and not isinstance(error, RayTLSError)


def listens(where: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether somebody takes connections at an address, or at the path of a Unix socket, in so many seconds."""
    host, _, port = where.rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host, int(port)), seconds).close()
        else:
            with socket.socket(socket.AF_UNIX) as unix:
                unix.connect(where)
    except OSError:
        return False
    return True


def details_of(error: BaseException) -> str:
    """Return what gRPC says of an error of Arrow Flight's, without what that puts around it."""
    text = str(error)
    found = _FLIGHT.match(text)
    return plain_details(found["details"] if found else text)
