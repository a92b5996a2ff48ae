"""Values on their way over Ray Client in pieces: what has arrived stays when a connection breaks."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import suppress
from pickle import PickleBuffer
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.pieces import BATCH_BYTES, Arriving, Departing, Pieces, compressed, original
from airflow_ray.exceptions import (
    AirflowRayError,
    RayConnectionError,
    RayOutOfMemoryError,
    RayPicklingError,
    RayWorkerCrashedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_ray.client.connection.ray_session import RaySession
    from airflow_ray.object_uri import ObjectURI


# Less than this Ray moves about as fast by itself.
LARGE_UPLOAD_BYTES = 16_000_000


LARGE_DOWNLOAD_BYTES = 64_000_000


PROGRESS_SECONDS = 5.0


STOP_SECONDS = 5.0


UPLOAD_THREADS = 3


class Transfer(ABC):
    """A value on its way, over one connection after another.

    :param say: takes a line for the log, now and then, of how far it is; called as ``Logger.info`` is.

    ``name`` is what the owner knows it by; ``moved`` counts the batches of pieces that have arrived.
    """

    verb: str

    def __init__(self, say: Callable[..., None]) -> None:
        self.name = uuid.uuid4().hex
        self.moved = 0
        self._say = say

    def run(self, session: RaySession) -> bool:
        """Move what is missing and return whether this can be done in pieces at all.

        :raises RayConnectionError: the connection broke; over another one it goes on.
        :raises AirflowRayError: it cannot be done, for example since the process at the other end has died.
        """
        stopped = Event()
        try:
            return self._move(session, stopped)
        except RayConnectionError:
            raise
        # A signal handler may raise anything. Nobody will come back for what the owner has.
        except BaseException:
            session.begin("transfer", "drop", self.name)
            raise
        finally:
            stopped.set()

    @abstractmethod
    def _move(self, session: RaySession, stopped: Event) -> bool: ...

    @abstractmethod
    def _failure(self, error: dict[str, Any]) -> AirflowRayError | None:
        """Return the exception for an error that only this kind of transfer has."""

    def _call(self, session: RaySession, step: str, *args: Any) -> Any:
        answer = session.call("transfer", step, self.name, *args)
        if not isinstance(answer, dict) or "error" not in answer:
            return answer
        error = answer["error"]
        died = RayOutOfMemoryError if error["kind"] == FailureKind.OUT_OF_MEMORY else RayWorkerCrashedError
        raise self._failure(error) or died(
            f"The process at the cluster's end of the transfer has died: {error['type']}: {error['message']}"
        )

    def _watch(self, threads: list[Future[None]], pieces: Pieces) -> None:
        """Wait for threads, which move ``pieces``, and raise what one of them raises."""
        while wait(threads, PROGRESS_SECONDS, FIRST_EXCEPTION).not_done:
            for each in threads:
                if each.done():
                    each.result()
            moved = min(self.moved * BATCH_BYTES, pieces.bytes)
            self._say("%s %.0f of %.0f MB", self.verb, moved / 1e6, pieces.bytes / 1e6)
        for each in threads:
            each.result()


class Upload(Transfer):
    """Sends a value to the owner.

    :param departing: the value.
    :param type_name: what it is, for errors.
    """

    verb = "Uploaded"

    def __init__(self, departing: Departing, type_name: str, say: Callable[..., None]) -> None:
        super().__init__(say)
        self._departing = departing
        self._type_name = type_name
        self._compressed = False
        self._lock = Lock()

    def _move(self, session: RaySession, stopped: Event) -> bool:
        pieces = self._departing.pieces
        known = self._call(session, "upload", self._departing.sizes)
        self._compressed, taken = known["compressed"], known["taken"]
        self.moved = len(taken)
        waiting = deque(sorted(set(range(pieces.batches)).difference(taken)))
        threads = [session.start(lambda: self._send(session, stopped, waiting)) for _ in range(UPLOAD_THREADS)]
        self._watch(threads, pieces)
        while not (received := self._call(session, "received")):
            if received is None:
                raise RayConnectionError("The cluster has heard nothing of this upload for too long.")
        return True

    def _send(self, session: RaySession, stopped: Event, waiting: deque[int]) -> None:
        """Offer one batch after another, each while the one before is taken."""
        import ray

        offers: deque[tuple[int, Any]] = deque()
        with session.translate_errors():
            while (waiting or offers) and not stopped.is_set():
                batch = _next(waiting)
                if batch is not None:
                    refs = [ray.put(self._sent(piece)) for piece in self._departing.pieces.read(batch)]
                    offers.append((batch, session.owner.transfer.remote("offer", self.name, batch, refs)))
                if len(offers) > 1 or (offers and batch is None):
                    batch, offer = offers.popleft()
                    self._settle(batch, ray.get(offer), stopped, waiting)

    def _sent(self, piece: Any) -> Any:
        return (compressed(piece) if self._compressed else None) or _picklable(piece)

    def _settle(self, batch: int, taken: bool | None, stopped: Event, waiting: deque[int]) -> None:
        if taken is None:
            # The transfer has ended, and the owner knows why.
            stopped.set()
        elif taken:
            with self._lock:
                self.moved += 1
        else:
            waiting.append(batch)

    def _failure(self, error: dict[str, Any]) -> AirflowRayError | None:
        if error["kind"] != FailureKind.NOT_PICKLABLE:
            return None
        return RayPicklingError(
            f"A value of type {self._type_name} cannot be unpickled on the Ray cluster, which needs the packages it "
            f"was made with: {error['type']}: {error['message']}"
        )


class Download(Transfer):
    """Gets a value from the owner.

    :param uri: the object, for errors.
    :param ref: its ref on the first connection.
    """

    verb = "Downloaded"

    def __init__(self, uri: ObjectURI, ref: Any, say: Callable[..., None]) -> None:
        super().__init__(say)
        self._uri = uri
        self._refs = [ref]
        self._arriving: Arriving | None = None
        self._missing: set[int] = set()

    def value(self) -> Any:
        """Return what has arrived, once.

        :raises Exception: whatever a pickle raises that was made with other packages.
        """
        arriving, self._arriving = self._arriving, None
        return arriving.value() if arriving else None

    def _move(self, session: RaySession, stopped: Event) -> bool:
        refs, self._refs = self._refs, []
        header = self._call(session, "download", refs)
        if header is None:
            raise errors.object_lost(self._uri, "the cluster has heard nothing of this download for too long")
        if header["sizes"] is None:
            self._call(session, "drop")
            if refs:
                return False
            raise errors.object_lost(self._uri, "the process that sent it has failed")
        if self._arriving is None:
            self._arriving = Arriving(header["sizes"])
            self._missing = set(range(self._arriving.pieces.batches))
        pieces = self._arriving.pieces
        self._watch([session.start(lambda: self._receive(session, stopped, pieces))], pieces)
        return True

    def _receive(self, session: RaySession, stopped: Event, pieces: Pieces) -> None:
        """Ask for all that the owner tells of, and copy one batch after another to where it belongs."""
        poll = session.begin("transfer", "offered", self.name)
        offers: deque[tuple[int, int, list[Any]]] = deque()
        coming: deque[tuple[int, int, list[Future[Any]]]] = deque()
        # To forget an answer would be to wait for it.
        settled = []

        def settle(offer: int) -> Any:
            return session.owner.transfer.remote("settle", self.name, [offer], True)

        with session.translate_errors():
            while self._missing and not stopped.is_set():
                if poll.done() or not (offers or coming):
                    offers.extend(self._known(session, poll.result()))
                    poll = session.begin("transfer", "offered", self.name)
                if offers:
                    offer, batch, refs = offers.popleft()
                    # A connection that broke may have lost the word that this batch has arrived.
                    if batch not in self._missing:
                        settled.append(settle(offer))
                        continue
                    # By one thread: ray.get in several takes a third more of the processors.
                    coming.append((offer, batch, [ref.future() for ref in refs]))
                    del refs
                if len(coming) > 1 or (coming and not offers):
                    offer, batch, arriving = coming.popleft()
                    self._take(pieces, batch, arriving)
                    settled.append(settle(offer))
        self._call(session, "drop")
        # Ray cannot be shut down under a call.
        wait([poll], STOP_SECONDS)

    def _known(self, session: RaySession, offers: Any) -> list[tuple[int, int, list[Any]]]:
        if offers is None:
            # The transfer has ended, and the owner knows why.
            self._call(session, "download", [])
            raise errors.object_lost(self._uri, "the process that sent it has ended")
        return list(offers)

    def _take(self, pieces: Pieces, batch: int, arriving: list[Future[Any]]) -> None:
        from ray.exceptions import RayError

        try:
            for number, piece in enumerate(arriving):
                pieces.write(batch, number, original(piece.result()))
        except RayError as lost:
            raise errors.object_lost(self._uri, str(lost)) from lost
        self._missing.discard(batch)
        self.moved += 1

    def _failure(self, error: dict[str, Any]) -> AirflowRayError | None:
        return errors.object_lost(self._uri, error["message"]) if error["kind"] == FailureKind.INPUT_LOST else None


def _next(waiting: deque[int]) -> int | None:
    """Return the first that waits, which other threads take from too."""
    with suppress(IndexError):
        return waiting.popleft()
    return None


def _picklable(piece: Any) -> Any:
    """Return a piece in a form that arrives as bytes, without a copy."""
    return piece if isinstance(piece, bytes) else PickleBuffer(piece.toreadonly())
