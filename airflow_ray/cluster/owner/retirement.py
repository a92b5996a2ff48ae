"""The end of an owner that another build has taken the place of, or that nobody has any use for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_ray.cluster.owner.calls import Calls
    from airflow_ray.cluster.owner.elders import Elders
    from airflow_ray.cluster.owner.records import Records
    from airflow_ray.cluster.protocol import Greeting

# Between the last record and the end.
END_SECONDS = 1.0
# Without a record and a call. Its driver counts as use of the cluster, which may be kept for that.
IDLE_SECONDS = 120.0
LOOK_SECONDS = 5.0


class Retirement:
    """Knows whether an owner still takes new work, and when it ends.

    :param greeting: of the owner.
    :param elders: the owners of other builds.
    :param records: of the owner.
    :param count_transfers: returns how many values are on their way.
    :param calls: that the owner answers.
    """

    def __init__(
        self,
        greeting: Greeting,
        elders: Elders,
        records: Records,
        count_transfers: Callable[[], Awaitable[int]],
        calls: Calls,
    ) -> None:
        self._greeting = greeting
        self._elders = elders
        self._records = records
        self._count_transfers = count_transfers
        self._calls = calls
        self._newer_release: str | None = None
        # How often another build has told of itself.
        self._tellings = 0
        self._ends_when_empty = False
        self._may_end = asyncio.Event()

    async def begin(self) -> None:
        """Let those of older builds retire, or retire where there is a newer one."""
        newer = await self._elders.meet()
        # One that came meanwhile may have told so already.
        self._newer_release = newer or self._newer_release
        self._ends_when_empty = self._ends_when_empty or newer is not None
        self.end_if_empty()

    def retire(self, newer_release: str | None) -> bool:
        """End when there is nothing left, since there is another build; return whether that is so already.

        :param newer_release: of a newer release, which alone takes new work from here on; None for one that is none.
        """
        self._newer_release = newer_release or self._newer_release
        self._tellings += 1
        self._ends_when_empty = True
        self.end_if_empty()
        return not len(self._records)

    async def refusal(self) -> dict[str, Any] | None:
        """Return why no new work is taken here, unless whoever took it instead has gone."""
        if self._newer_release is None:
            return None
        tellings = self._tellings
        newer = await self._elders.meet()
        # One that came meanwhile may have told so.
        if newer is not None or self._tellings == tellings:
            self._newer_release = newer
        if self._newer_release is None:
            return None
        return failure(FailureKind.RETIRED, release=self._greeting["release"], newer_release=self._newer_release)

    def end_if_empty(self) -> None:
        """Let the owner end if it is to, and has nothing left."""
        if self._ends_when_empty and not len(self._records):
            self._may_end.set()

    async def until_end(self) -> bool:
        """Return when the owner is to end and has nothing left: whether it is another build that takes new work."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._may_end.wait(), LOOK_SECONDS)
                # The answer to whoever has released the last of it goes out, and work that just came begins.
                await asyncio.sleep(END_SECONDS)
            transfers = await self._count_transfers()
            # Nothing is awaited from here on, so no call comes in between.
            is_idle = self._calls.seconds_without() >= IDLE_SECONDS
            is_empty = not len(self._records) and not transfers
            if is_empty and (self._ends_when_empty or is_idle):
                self._calls.end()
                return self._ends_when_empty
            self._may_end.clear()
            self.end_if_empty()
