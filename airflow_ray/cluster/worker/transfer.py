"""The end of a transfer on a worker: the task that puts a value together, or takes it apart.

It runs on the head, beside the gateway, which passes the bytes on to a client of its own.
"""

from __future__ import annotations

from typing import Any

from airflow_ray.cluster.gateway.flight import batch_of, chunks_of, schema
from airflow_ray.cluster.messages import packed
from airflow_ray.cluster.values.pickler import pickler, unpickler
from airflow_ray.cluster.values.stream import Departing, arrived


def receive(socket: str, name: str, sizes: list[int]) -> tuple[Any, bool]:
    """Return the value that a client sends, and that it is there; as a task of the owner's.

    :param socket: of the gateway.
    :param name: of the transfer.
    :param sizes: of its pickle and its buffers, in bytes.
    :raises Exception: whatever a pickle raises that was made with other packages.
    """
    from pyarrow import flight

    with flight.FlightClient(flight.Location.for_grpc_unix(socket)) as client:
        reader = client.do_get(flight.Ticket(packed({"name": name})))
        return arrived(sizes, chunks_of(reader), unpickler), True


def send(socket: str, name: str, value: Any) -> bool:
    """Send a value to a client; as a task of the owner's.

    :param socket: of the gateway.
    :param name: of the transfer.
    :raises Exception: whatever a class raises that cannot be pickled.
    """
    from pyarrow import flight

    departing = Departing(value, pickler)
    with flight.FlightClient(flight.Location.for_grpc_unix(socket)) as client:
        descriptor = flight.FlightDescriptor.for_command(packed({"name": name, "sizes": departing.sizes}))
        writer, _ = client.do_put(descriptor, schema())
        with writer:
            for chunk in departing.chunks():
                writer.write_batch(batch_of(chunk))
    return True
