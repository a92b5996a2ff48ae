"""What wakes those who wait for a change."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Bell:
    """Wakes all who wait when it rings; what has changed they look up themselves.

    Unlike a condition of asyncio's it has no lock. Ray cancels the calls of work together with that work, and a call
    that is cancelled just when its time to wait is over would leave such a lock taken for ever.
    """

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Return when it rings, or after ``timeout`` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiters.discard(waiter)

    async def wait_for(self, is_so: Callable[[], bool], timeout: float) -> None:
        """Return as soon as something is so, which is looked at whenever it rings, or after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not is_so():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            await self.wait(left)
