"""The end of a transfer on a worker: the task that puts a value together, or takes it apart.

It runs on the head, beside the gateway, which passes the bytes on to a client of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure, lost_errors
from airflow_ray.cluster.gateway.flight import batch_of, chunks_of, schema
from airflow_ray.cluster.messages import packed
from airflow_ray.cluster.protocol import FailureKind, RefusalKind
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.pickler import pickler, unpickler
from airflow_ray.cluster.values.slices import as_shown
from airflow_ray.cluster.values.stream import Departing, arrived

if TYPE_CHECKING:
    from collections.abc import Iterator


def receive(socket: str, name: str, sizes: list[int]) -> Iterator[Any]:
    """Yield the value that a client sends, and as plain data why there is none; as a task of the owner's.

    What a user's code raises stays here: its class is nothing for the owner.

    :param socket: of the gateway.
    :param name: of the transfer.
    :param sizes: of its pickle and its buffers, in bytes.
    """
    value, error = _received(socket, name, sizes)
    # Ray pickles what is yielded before it asks for more.
    with as_shown():
        yield value
        yield error


def _received(socket: str, name: str, sizes: list[int]) -> tuple[Any, dict[str, Any] | None]:
    from pyarrow import flight

    with flight.FlightClient(flight.Location.for_grpc_unix(socket)) as client:
        try:
            reader = client.do_get(flight.Ticket(packed({"name": name})))
            return arrived(sizes, _whole(chunks_of(reader)), unpickler), None
        except (_BrokenError, EOFError) as error:
            return None, failure(RefusalKind.BROKEN, message=str(error))
        except Exception as error:
            return None, failure(FailureKind.NOT_PICKLABLE, **describe_exception(error))


def send(socket: str, name: str, refs: list[Any]) -> dict[str, Any] | None:
    """Send a value to a client, and return as plain data why that cannot be; as a task of the owner's.

    :param socket: of the gateway.
    :param name: of the transfer.
    :param refs: the ref of the value alone.
    :raises RayError: it is lost.
    """
    import pyarrow as pa
    import ray
    from pyarrow import flight

    try:
        departing = Departing(ray.get(refs[0]), pickler)
    except (*lost_errors(), ray.exceptions.RayActorError):
        raise
    except ray.exceptions.TaskCancelledError as error:
        return failure(FailureKind.INPUT_LOST, message=f"the work that was to make it again was given up: {error}")
    except Exception as error:
        return failure(FailureKind.NOT_PICKLABLE, **describe_exception(error))
    with flight.FlightClient(flight.Location.for_grpc_unix(socket)) as client:
        descriptor = flight.FlightDescriptor.for_command(packed({"name": name, "sizes": departing.sizes}))
        try:
            writer, _ = client.do_put(descriptor, schema())
            with writer:
                for chunk in departing.chunks():
                    writer.write_batch(batch_of(chunk))
        except pa.ArrowException as error:
            return failure(RefusalKind.BROKEN, message=str(error))
    return None


class _BrokenError(Exception):
    """The stream of a client broke off."""


def _whole(chunks: Iterator[Any]) -> Iterator[Any]:
    """Yield the chunks of a stream, and tell what is wrong with it from what is wrong with the value.

    :raises _BrokenError: the stream breaks off.
    """
    import pyarrow as pa

    while True:
        try:
            chunk = next(chunks, None)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _BrokenError(str(error)) from error
        if chunk is None:
            return
        yield chunk
