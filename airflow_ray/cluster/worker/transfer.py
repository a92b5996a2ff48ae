"""The end of a transfer on a worker: the task that takes a value's pieces, or sends them."""

from __future__ import annotations

from collections import deque
from importlib.util import find_spec
from typing import Any

from airflow_ray.cluster.values.pieces import Arriving, Departing, compressed, original

# Batches that wait in the store to be taken by a client.
OFFERS_AHEAD = 5


def receive(owner: Any, name: str, sizes: list[int]) -> tuple[Any, bool]:
    """Take the pieces of a value that a client offers, and return the value; as a task of the owner's.

    The second output is whether it is all there: it is not when the client has gone.
    """
    import ray

    arriving = Arriving(sizes)
    missing = set(range(arriving.pieces.batches))
    while missing:
        offers = ray.get(owner.transfer.remote("offered", name))
        if offers is None:
            return None, False
        for offer, batch, refs in offers:
            taken = _take(arriving, batch, refs)
            if taken:
                missing.discard(batch)
            owner.transfer.remote("settle", name, [offer], taken)
    return arriving.value(), True


def _take(arriving: Arriving, batch: int, refs: list[Any]) -> bool:
    import ray

    try:
        for number, piece in enumerate(ray.get(refs)):
            arriving.pieces.write(batch, number, original(piece))
    # The pieces of a client end with the process that serves it.
    except ray.exceptions.RayError:
        return False
    return True


def send(owner: Any, name: str, value: Any) -> bool:
    """Offer the pieces of a value until a client has taken them all; as a task of the owner's."""
    import ray

    departing = Departing(value)
    if departing.has_objects:
        ray.get(owner.transfer.remote("announce", name, None))
        return True
    ray.get(owner.transfer.remote("announce", name, departing.sizes))
    offers: deque[Any] = deque()
    for batch in range(departing.pieces.batches):
        refs = [ray.put(_sent(piece)) for piece in departing.pieces.read(batch)]
        offers.append(owner.transfer.remote("offer", name, batch, refs))
        if len(offers) == OFFERS_AHEAD and not ray.get(offers.popleft()):
            return False
    return all(ray.get(list(offers)))


def _sent(piece: Any) -> Any:
    return (compressed(piece) if can_decompress() else None) or bytes(piece)


def can_decompress() -> bool:
    """Return whether this side knows what to do with compressed pieces."""
    return find_spec("pyarrow") is not None
