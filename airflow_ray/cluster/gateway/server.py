"""The Arrow Flight server: it passes calls on to owners, and values from one stream to another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import Refusal, failure, refusal
from airflow_ray.cluster.gateway.calls import SIGN_SECONDS, OwnerName, Owners, greeting
from airflow_ray.cluster.gateway.flight import MAY_SEND, batch_of, chunk_of, schema
from airflow_ray.cluster.gateway.owner_start import OwnerStarts
from airflow_ray.cluster.gateway.pipes import SILENT_SECONDS, Pipe, PipeBrokenError, Pipes
from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.protocol import OWNER_PREFIX, RefusalKind
from airflow_ray.cluster.worker.inspection import inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.gateway.settings import GatewaySettings

_ENDED = "the cluster's end of the transfer has ended"


class Desk:
    """What the gateway does, for each of its servers.

    :param owners: whom it passes calls on to.
    :param settings: of the gateway, by whose Unix socket workers on this head come.
    :param control_service: host and port of the cluster's.
    :param release: of this package.
    """

    def __init__(self, owners: Owners, settings: GatewaySettings, control_service: str, release: str) -> None:
        self._owners = owners
        self._socket = str(settings.socket)
        self._greeting = greeting(release)
        self._pipes = Pipes()
        self._starts = OwnerStarts(owners, settings, control_service)

    def answers(self, kind: str, body: Any) -> Iterator[bytes]:
        """Yield what a client is told for an action: nothing now and then while it waits, and then the answer.

        :raises Refusal: it cannot be done.
        """
        message = _message(body)
        if kind == "greet":
            owner = _owner(message)
            owner_id, others = self._owners.id_of(owner), self._owners.others(owner)
            yield packed({**self._greeting, "owner": owner_id, "others": others})
        elif kind == "start":
            yield from (b"" for _ in self._starts.start(_owner(message), message.get("bundle")))
            yield packed({})
        elif kind == "survey":
            # Of the cluster itself: also where nobody has begun to work, or all have ended.
            yield packed(inspection())
        elif kind == "call":
            yield from self._call(message)
        else:
            raise refusal(RefusalKind.REFUSED, f"There is no action {kind!r}")

    def take(self, command: Any, reader: Any, writer: Any) -> None:
        """Take a value from a client, for a worker, or from a worker, for a client.

        :raises Refusal: it cannot be done.
        :raises PipeBrokenError: the other end has gone.
        """
        message = _message(command)
        name, sizes = message.get("name"), message.get("sizes")
        if not (isinstance(name, str) and isinstance(sizes, list) and all(type(size) is int for size in sizes)):
            raise refusal(RefusalKind.REFUSED, "The value has no name or no sizes")
        if "owner" in message:
            self._upload(_owner(message), name, sizes, reader, writer)
            return
        pipe = self._pipe(name)
        pipe.put((batch_of(b""), packed({"sizes": sizes})), 0)
        _pour(reader, pipe, SILENT_SECONDS)

    def give(self, ticket: Any) -> Iterator[Any]:
        """Yield the batches of a value, for a client or for a worker; the sizes come before as metadata.

        :raises Refusal: it cannot be done.
        :raises PipeBrokenError: the other end has gone.
        """
        message = _message(ticket)
        name = message.get("name")
        if not isinstance(name, str):
            raise refusal(RefusalKind.REFUSED, "The value has no name")
        if "owner" in message:
            yield from self._download(_owner(message), name, message.get("record_id"), message.get("key"))
        else:
            for batch, _ in self._pipe(name).batches(patience=SILENT_SECONDS):
                yield batch

    def _call(self, message: dict[str, Any]) -> Iterator[bytes]:
        method, args, kwargs = message.get("method"), message.get("args", []), message.get("kwargs", {})
        if not (isinstance(method, str) and isinstance(args, list) and isinstance(kwargs, dict)):
            raise refusal(RefusalKind.REFUSED, "The call is none")
        is_look = message.get("is_look") is True
        for answer in self._owners.call(_owner(message), method, args, kwargs, is_look):
            yield b"" if answer is None else packed({"answer": answer[0]})

    def _upload(self, owner: OwnerName, name: str, sizes: list[int], reader: Any, writer: Any) -> None:
        import ray

        with self._pipes.open(name) as pipe:
            for _ in self._pipes.wait_for_turn(pipe, SIGN_SECONDS):
                writer.write(b"")
            writer.write(MAY_SEND)
            done = self._owners.begin(owner, "receive", name, sizes, self._socket)
            done.future().add_done_callback(lambda _: pipe.break_off(_ENDED))
            try:
                _pour(reader, pipe)
            except PipeBrokenError as error:
                # Where the cluster's end has ended, it says why.
                if str(error) != _ENDED:
                    raise
            while not ray.wait([done], timeout=SIGN_SECONDS)[0]:
                writer.write(b"")
            self._require_success(owner, done)

    def _download(self, owner: OwnerName, name: str, record_id: Any, key: Any) -> Iterator[Any]:
        nothing = batch_of(b"")
        with self._pipes.open(name) as pipe:
            for _ in self._pipes.wait_for_turn(pipe, SIGN_SECONDS):
                yield nothing
            done = self._owners.begin(owner, "send", record_id, key, name, self._socket)
            done.future().add_done_callback(lambda _: pipe.break_off(_ENDED))
            try:
                for part in pipe.batches(signs=SIGN_SECONDS):
                    batch, metadata = part or (nothing, None)
                    yield batch if metadata is None else (batch, metadata)
                # One that died in the middle has ended its stream as well.
                self._require_success(owner, done)
            except PipeBrokenError:
                self._require_success(owner, done)
                raise

    def _require_success(self, owner: OwnerName, done: Any) -> None:
        error = self._owners.answer(owner, done)
        if error is not None:
            raise Refusal(error)

    def _pipe(self, name: str) -> Pipe:
        pipe = self._pipes.get(name)
        if pipe is None:
            raise refusal(RefusalKind.BROKEN, "Nobody waits for this value any more")
        return pipe


def server(desk: Desk, location: Any, **options: Any) -> Any:
    """Return a server that has begun to listen.

    :param options: of ``pyarrow.flight.FlightServerBase``.
    """
    from pyarrow import flight

    class Server(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
        def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
            return _telling_all(desk.answers(action.type, action.body))

        def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
            with _telling():
                desk.take(descriptor.command, reader, writer)

        def do_get(self, context: Any, ticket: Any) -> Any:
            return flight.GeneratorStream(schema(), _telling_all(desk.give(ticket.ticket)))

    return Server(location, **options)


@contextmanager
def _telling() -> Iterator[None]:
    """Raise as an error of Flight's, with plain data for the client, why something was not done."""
    try:
        yield
    except Refusal as told:
        raise _told(told.error) from told
    except PipeBrokenError as error:
        raise _told(failure(RefusalKind.BROKEN, message=str(error))) from error


def _told(error: dict[str, Any]) -> Exception:
    from pyarrow import flight

    told: Exception = flight.FlightServerError(str(error.get("message", error["kind"])), packed(error))
    return told


def _telling_all(parts: Iterator[Any]) -> Iterator[Any]:
    with _telling():
        yield from parts


def _message(body: Any) -> dict[str, Any]:
    """Return the message that a peer has sent.

    :raises Refusal: it is none.
    """
    try:
        message = unpacked(body)
    except ValueError as error:
        raise refusal(RefusalKind.REFUSED, f"The message cannot be read: {error}") from error
    if not isinstance(message, dict):
        raise refusal(RefusalKind.REFUSED, "The message is no mapping")
    return message


def _owner(message: dict[str, Any]) -> OwnerName:
    namespace, name = message.get("namespace"), message.get("owner")
    if not (isinstance(namespace, str) and isinstance(name, str) and name.startswith(OWNER_PREFIX)):
        raise refusal(RefusalKind.REFUSED, "The message names no owner")
    return OwnerName(namespace, name)


def _pour(reader: Any, pipe: Pipe, patience: float | None = None) -> None:
    """Pass all batches of a reader on.

    :param patience: as for :meth:`Pipe.put`.
    :raises PipeBrokenError: nobody takes them.
    :raises Refusal: they are of another schema.
    """
    for part in reader:
        if part.data is not None:
            try:
                size = len(chunk_of(part.data))
            except ValueError as error:
                pipe.break_off(str(error))
                raise refusal(RefusalKind.REFUSED, str(error)) from error
            pipe.put((part.data, None), size, patience)
    # Also where the sender has died: whoever reads knows how much there is to come.
    pipe.end()
