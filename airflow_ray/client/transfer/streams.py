"""Whole values on their way through the gateway, and back: what breaks begins again."""

from __future__ import annotations

import logging
import math
import threading
import uuid
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.connection.session import ObjectNotThere
from airflow_ray.client.connection.threads import await_telling
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.client.transfer import failures
from airflow_ray.client.transfer.waiting import WaitForObject
from airflow_ray.cluster.gateway.flight import MAY_SEND, batch_of, chunks_of, schema
from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.pickler import pickler, unpickler
from airflow_ray.cluster.values.stream import Departing, arrived
from airflow_ray.exceptions import AirflowRayError, RayConnectionError, RayPicklingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.connection.gateway_session import GatewaySession
    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.object_uri import ObjectURI

# The gateway itself gives up an end that does nothing for a minute, and says so.
SILENT_SECONDS = 90.0
# Of which none came further than those before.
MAX_VAIN_TRIES = 2

log = logging.getLogger(__name__)


class TransferFailure(Exception):
    """Carries, as plain data, why the cluster could not take or give a value."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["kind"])
        self.error = error


class _Stopped(Exception):
    """Ends a transfer that nobody waits for any more."""


class _Transfer:
    """A value on its way, over one connection after another.

    :param session: the first of them.
    :param connect_again: makes the others.
    """

    verb: str

    def __init__(self, session: GatewaySession, connect_again: ConnectAgain) -> None:
        self._session = session
        self._connect_again = connect_again
        self._moved = 0
        self._bytes = 0
        self._note: Callable[..., None] = lambda: None

    def run(self) -> Any:
        """Move the value, and return what :meth:`_move` does.

        :raises RayConnectionError: the connection broke, and twice in turn no try came further than one before.
        """
        furthest, vain = 0, 0
        while True:
            self._moved = 0
            try:
                return self._run()
            except RayConnectionError as error:
                vain = 0 if self._moved > furthest else vain + 1
                furthest = max(furthest, self._moved)
                if vain == MAX_VAIN_TRIES:
                    raise
                self._session = self._connect_again(error)

    def _run(self) -> Any:
        stopped = threading.Event()

        def move(note: Callable[..., None]) -> Any:
            self._note = note
            return self._move(self._session, stopped)

        future = self._session.start(move, SILENT_SECONDS)
        try:
            return await_telling(future, self._teller())
        # Also where a signal handler raises.
        finally:
            stopped.set()

    def _move(self, session: GatewaySession, stopped: threading.Event) -> Any:
        raise NotImplementedError

    def _teller(self) -> Callable[[], None]:
        """Return what says how far a try has come."""
        return self._tell_progress

    def _tell_progress(self) -> None:
        log.info("%s %.0f of %.0f MB", self.verb, self._moved / 1e6, self._bytes / 1e6)

    def _go_on(self, stopped: threading.Event, moved: int = 0) -> None:
        """Take note that the other end is alive.

        :param moved: how many bytes have come, or gone, since.
        """
        if stopped.is_set():
            raise _Stopped
        self._moved += moved
        self._note()


class _Upload(_Transfer):
    verb = "Uploaded"

    def __init__(self, departing: Departing, session: GatewaySession, connect_again: ConnectAgain) -> None:
        super().__init__(session, connect_again)
        self._departing = departing
        self._bytes = sum(departing.sizes)

    def _move(self, session: GatewaySession, stopped: threading.Event) -> str:
        from pyarrow import flight

        name = uuid.uuid4().hex
        command = packed({**session.peer.owner, "name": name, "sizes": self._departing.sizes})
        with session.translate_errors(), session.peer.client.used() as client:
            descriptor = flight.FlightDescriptor.for_command(command)
            writer, reader = client.do_put(descriptor, schema(), session.peer.client.options())
            # Where it ends instead, the end of the context raises why.
            with writer:
                if self._may_send(reader):
                    for chunk in self._departing.chunks():
                        writer.write_batch(batch_of(chunk))
                        self._go_on(stopped, len(chunk))
                writer.done_writing()
                # Signs of life while the cluster puts it together.
                while reader.read() is not None:
                    self._note()
        return name

    def _may_send(self, reader: Any) -> bool:
        """Wait until the gateway has room for one more; return whether it comes to that."""
        while (sign := reader.read()) is not None:
            self._note()
            if sign == MAY_SEND:
                return True
        return False


class _Download(_Transfer):
    verb = "Downloaded"

    def __init__(self, uri: ObjectURI, session: GatewaySession, connect_again: ConnectAgain) -> None:
        super().__init__(session, connect_again)
        self._uri = uri

    def _teller(self) -> Callable[[], None]:
        wait = WaitForObject(self._session, self._uri)
        return lambda: self._tell_progress() if self._moved else wait.tell()

    def _move(self, session: GatewaySession, stopped: threading.Event) -> Any:
        from pyarrow import flight

        key = {"record_id": self._uri.record_id, "key": self._uri.key}
        ticket = flight.Ticket(packed({**session.peer.owner, "name": uuid.uuid4().hex, **key}))
        with session.peer.client.used() as client:
            with session.translate_errors():
                reader = client.do_get(ticket, session.peer.client.options())
                while (first := reader.read_chunk()).app_metadata is None:
                    self._go_on(stopped)
            sizes = unpacked(first.app_metadata)["sizes"]
            self._bytes = sum(sizes)

            # What goes wrong between two of them is of the user's own code, and not of the connection.
            def chunks() -> Iterator[Any]:
                coming = chunks_of(reader)
                while True:
                    self._note()
                    with session.translate_errors():
                        chunk = next(coming, None)
                    self._go_on(stopped, 0 if chunk is None else len(chunk))
                    # Whoever makes a value of them needs no connection for that, and may take their time.
                    self._note(math.inf)
                    if chunk is None:
                        return
                    yield chunk

            try:
                return arrived(sizes, chunks(), unpickler)
            except EOFError as error:
                raise RayConnectionError(f"The connection to the Ray cluster broke: {error}.") from error
            except (AirflowRayError, TransferFailure, _Stopped):
                raise
            # What a user's class raises as it is unpickled is anything.
            except Exception as error:
                raise failures.not_readable_here(self._uri, error) from error
            finally:
                # It does nothing to one that has ended.
                reader.cancel()


def departing(value: Any) -> Departing:
    """Return a value as it is sent.

    :raises RayPicklingError: it cannot be pickled.
    """
    try:
        with pickle_by_value(importable_modules_of_user()):
            return Departing(value, pickler)
    # What a user's __reduce__ raises is anything.
    except Exception as error:
        raise failures.not_picklable(value, error) from error


def send(session: GatewaySession, value: Departing, connect_again: ConnectAgain) -> str:
    """Bring a value to the cluster, and return by what name the owner knows it.

    :raises RayPicklingError: it cannot be unpickled on the cluster.
    :raises RayWorkerCrashedError: the process that received it has died.
    """
    try:
        name: str = _Upload(value, session, connect_again).run()
    except TransferFailure as failure:
        told = failure.error
        if told["kind"] == FailureKind.NOT_PICKLABLE:
            raise RayPicklingError(
                f"A value of type {value.type_name} cannot be unpickled on the Ray cluster, which needs the "
                f"packages it was made with: {told['type']}: {told['message']}"
            ) from failure
        raise failures.died(told) from failure
    return name


def fetch(session: GatewaySession, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
    """Return an object of the cluster.

    :raises ObjectNotThere: the owner has none of that name.
    :raises RayObjectLostError: it is gone.
    :raises RayPicklingError: it cannot be unpickled in this process, or not be pickled on the cluster.
    :raises RayWorkerCrashedError: the process that sent it has died.
    """
    keep_identities()
    try:
        return _Download(uri, session, connect_again).run()
    except TransferFailure as failure:
        error = failure.error
        if error["kind"] == FailureKind.NO_OBJECT:
            raise ObjectNotThere(error) from failure
        if error["kind"] == FailureKind.INPUT_LOST:
            raise errors.object_lost(uri, error["message"]) from failure
        if error["kind"] == FailureKind.NOT_PICKLABLE:
            raise RayPicklingError(
                f"{uri} cannot be sent from the Ray cluster: {error['type']}: {error['message']}"
            ) from failure
        raise failures.died(error) from failure
