"""Values that come from a Ray Client in pieces, and go to one so: faster than as a whole, and not all over again.

Whoever has pieces offers them in batches to the owner, which passes the refs on to whoever takes them. One side is the
Ray Client, the other is a task of the owner's. When the connection of the client breaks, the task and the owner keep
what has been taken, and the next connection goes on from there.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.worker.transfer import can_decompress, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable


POLL_SECONDS = 10.0


# A client may be away for a while; what it has left behind takes memory.
SILENT_SECONDS = 300.0


@dataclass(eq=False)
class _Offer:
    batch: int
    refs: list[Any]
    settled: asyncio.Future[bool | None]

    def answer(self, taken: bool | None) -> None:
        # Whoever has offered it may be gone.
        if not self.settled.done():
            self.settled.set_result(taken)


@dataclass(eq=False)
class _Transfer:
    """One value on its way.

    :param done: the ref by which the task tells its end.
    :param value: the ref of the value that is received; None where one is sent.

    ``offers`` are those that nobody has settled, ``waiting`` those among them that nobody was told of; ``taken`` are
    the batches that have arrived. ``touched`` is when the client last asked, by the monotonic clock in seconds;
    ``asked`` counts who has asked for offers, of whom only the last one is there.
    """

    done: Any
    value: Any = None
    offers: dict[int, _Offer] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)
    taken: set[int] = field(default_factory=set)
    header: dict[str, Any] | None = None
    ended: bool = False
    asked: int = 0
    touched: float = field(default_factory=time.monotonic)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    background: list[asyncio.Task[None]] = field(default_factory=list)

    def touch(self) -> None:
        """Take note that the client is there."""
        self.touched = time.monotonic()

    async def wait(self, is_so: Callable[[], Any]) -> bool:
        """Wait for a while, and return whether it is so."""
        async with self.changed:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait_for(is_so), POLL_SECONDS)
        return bool(is_so())

    async def notify(self) -> None:
        """Wake who waits."""
        async with self.changed:
            self.changed.notify_all()

    async def end(self) -> None:
        """Let everybody go who waits for something."""
        self.ended = True
        for offer in self.offers.values():
            offer.answer(None)
        self.offers.clear()
        await self.notify()


class Transfers:
    """The transfers that are under way; part of the owner, which never holds a value.

    :param owner: the handle of the owner, whose method ``transfer`` passes its calls on to here.
    """

    def __init__(self, owner: Any) -> None:
        import ray

        self._owner = owner
        self._transfers: dict[str, _Transfer] = {}
        self._numbers = itertools.count()
        # Ray would run it again without those pieces that have been taken.
        self._receive = ray.remote(num_cpus=0, num_returns=2, max_retries=0)(receive)
        self._send = ray.remote(num_cpus=0, max_retries=0)(send)

    async def upload(self, name: str, sizes: list[int]) -> dict[str, Any]:
        """Begin to receive a value, or go on with it.

        :returns: which batches have been ``taken``, and whether pieces may be ``compressed``.
        """
        if name not in self._transfers:
            value, done = self._receive.remote(self._owner, name, sizes)
            self._begin(name, _Transfer(done, value))
        transfer = self._transfers[name]
        transfer.touch()
        return {"taken": list(transfer.taken), "compressed": can_decompress()}

    async def received(self, name: str) -> bool | None:
        """Wait a while for the value, and return whether it is there; None if nobody knows of it any more.

        :raises RayError: it cannot be put together.
        """
        transfer = self._transfers.get(name)
        if transfer is None:
            return None
        transfer.touch()
        if not await transfer.wait(lambda: transfer.ended):
            return False
        await transfer.done
        return True

    async def take_value(self, name: str) -> Any:
        """Return the ref of a value that has been received, which ends the transfer.

        :raises KeyError: the client has let too much time pass since.
        """
        value = self._transfers[name].value
        await self.drop(name)
        return value

    async def download(self, name: str, refs: list[Any]) -> dict[str, Any] | None:
        """Begin to send the only object in ``refs``, or go on where there is none.

        :returns: the ``sizes`` of what comes, None where only Ray can send it; None in all if nobody knows of it.
        :raises RayError: the process that sends it has died, or the object is lost.
        """
        from ray.exceptions import RayTaskError

        if refs:
            self._begin(name, _Transfer(self._send.remote(self._owner, name, refs[0])))
        transfer = self._transfers.get(name)
        if transfer is None:
            return None
        transfer.touch()
        # What the client was told of on another connection, or is about to be told there, does not reach it.
        transfer.asked += 1
        transfer.waiting = deque(transfer.offers)
        while not await transfer.wait(lambda: transfer.header or transfer.ended):
            transfer.touch()
        try:
            if transfer.ended:
                await transfer.done
        # Whatever it cannot do, Ray tells the client better.
        except RayTaskError:
            return {"sizes": None}
        return transfer.header or {"sizes": None}

    async def announce(self, name: str, sizes: list[int] | None) -> None:
        """Take note of what will be sent; called by the task."""
        transfer = self._transfers.get(name)
        if transfer is not None:
            transfer.header = {"sizes": sizes}
            await transfer.notify()

    async def offer(self, name: str, batch: int, refs: list[Any]) -> bool | None:
        """Pass pieces on and return whether they were taken; None when the transfer has ended."""
        transfer = self._transfers.get(name)
        if transfer is None or transfer.ended:
            return None
        if transfer.value is not None:
            transfer.touch()
        if batch in transfer.taken:
            return True
        number = next(self._numbers)
        offer = _Offer(batch, refs, asyncio.get_running_loop().create_future())
        transfer.offers[number] = offer
        transfer.waiting.append(number)
        await transfer.notify()
        return await offer.settled

    async def offered(self, name: str) -> list[tuple[int, int, list[Any]]] | None:
        """Return new offers as soon as there are any, each with its number and batch; None at the end."""
        transfer = self._transfers.get(name)
        if transfer is None:
            return None
        if transfer.value is None:
            transfer.touch()
        transfer.asked = asked = transfer.asked + 1
        await transfer.wait(lambda: transfer.waiting or transfer.ended or transfer.asked != asked)
        if transfer.ended:
            return None
        if transfer.asked != asked:
            return []
        numbers = [number for number in transfer.waiting if number in transfer.offers]
        transfer.waiting.clear()
        return [(number, transfer.offers[number].batch, transfer.offers[number].refs) for number in numbers]

    async def settle(self, name: str, numbers: list[int], taken: bool) -> None:
        """Take note that offers were taken, or that their pieces are lost."""
        transfer = self._transfers.get(name)
        if transfer is None:
            return
        for number in numbers:
            offer = transfer.offers.pop(number, None)
            if offer is not None:
                transfer.taken.update([offer.batch] if taken else [])
                offer.answer(taken)

    async def drop(self, name: str) -> None:
        """End a transfer, whatever has become of it."""
        transfer = self._transfers.pop(name, None)
        if transfer is not None:
            await transfer.end()
            for each in transfer.background:
                each.cancel()

    async def count(self) -> int:
        """Return how many are under way."""
        return len(self._transfers)

    def _begin(self, name: str, transfer: _Transfer) -> None:
        self._transfers[name] = transfer
        loop = asyncio.get_running_loop()
        transfer.background += [loop.create_task(self._until_end(transfer)), loop.create_task(self._until_silent(name))]

    async def _until_end(self, transfer: _Transfer) -> None:
        from ray.exceptions import RayError

        with suppress(RayError):
            await transfer.done
        await transfer.end()

    async def _until_silent(self, name: str) -> None:
        transfer = self._transfers[name]
        left = SILENT_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = transfer.touched + SILENT_SECONDS - time.monotonic()
        await self.drop(name)
