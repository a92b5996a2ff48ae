"""Owners of other builds in the same namespace: the newest takes all new work, the others finish what they have."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION, OWNER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_ray.cluster.owner.waiting import Wanted
    from airflow_ray.cluster.protocol import Greeting

# Between two looks at what they have, while somebody waits for that: it happens after an upgrade only.
ELDERS_SECONDS = 1.0


class Elders:
    """Asks the owners of older builds for what this one does not know.

    :param greeting: of this owner.
    :param list_others: returns the handles of the other owners of the namespace.
    :param adopt: makes an object of another's an output of this owner's.
    """

    def __init__(
        self, greeting: Greeting, list_others: Callable[[], list[Any]], adopt: Callable[..., Awaitable[Any]]
    ) -> None:
        self._greeting = greeting
        self._list_others = list_others
        self._adopt = adopt
        self._handles: list[Any] = []

    async def meet(self) -> str | None:
        """Let those of older builds retire, and return the release of a newer one, if there is one."""
        from ray.exceptions import RayError

        for handle in self._list_others():
            try:
                greeting: Greeting = await handle.greet.remote()
                if not _speaks(greeting):
                    continue
                if _age(greeting) > _age(self._greeting):
                    return greeting["release"]
                await handle.retire.remote(self._greeting["release"])
            # It has just ended, or is of a release that did not greet.
            except (RayError, AttributeError):
                continue
            self._handles.append(handle)
        return None

    async def holder_of(self, record_id: str) -> Any:
        """Return the handle of the one that knows a record, or None."""
        for handle in list(self._handles):
            if await self._ask(handle, "describe", record_id) is not None:
                return handle
        return None

    async def hand_over(self, record_id: str, key: str) -> None:
        """Adopt an output that one of them has."""
        elder = await self.holder_of(record_id)
        if elder is None:
            return
        found, known = await self._ask(elder, "find", record_id, key), await self._ask(elder, "describe", record_id)
        if found and known and found[0]:
            await self._adopt(record_id, key, found[0], [], known["outputs"][key], known["ttl"])

    async def watch(
        self,
        watch: Callable[..., Awaitable[Any]],
        unknown: list[str],
        watcher: str,
        wanted: list[Wanted],
        timeout: float,
    ) -> Any:
        """Return what ``watch`` does, and of those records that this owner does not know what the others tell.

        :param watch: :meth:`Waiting.watch <airflow_ray.cluster.owner.waiting.Waiting.watch>` of this owner.
        :param unknown: the ids of these records.
        """
        holders = {each: holder for each in unknown if (holder := await self.holder_of(each)) is not None}
        if not holders:
            return await watch(watcher, wanted, timeout)
        own = [each for each in wanted if each[0] not in holders]
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            answers = await watch(watcher, own, min(left, ELDERS_SECONDS))
            if answers is None:
                return None
            own_answers = iter(answers)
            news = [
                (await self._ask(holders[each[0]], "watch", watcher, [each], 0.0) or [None])[0]
                if each[0] in holders
                else next(own_answers)
                for each in wanted
            ]
            if left <= 0 or any(each is not None and each["ended"] for each in news):
                return news

    async def ask_all(self, method: str, *args: Any) -> list[Any]:
        """Return what each of them answers; one that has ended answers nothing."""
        answers = [await self._ask(handle, method, *args) for handle in list(self._handles)]
        return [each for each in answers if each is not None]

    async def _ask(self, handle: Any, method: str, *args: Any) -> Any:
        from ray.exceptions import RayActorError

        try:
            return await getattr(handle, method).remote(*args)
        except RayActorError:
            if handle in self._handles:
                self._handles.remove(handle)
            return None


def _speaks(greeting: Greeting) -> bool:
    """Whether two owners have a version of the messages in common."""
    return greeting["messages"] >= OLDEST_MESSAGES_VERSION and greeting["oldest_messages"] <= MESSAGES_VERSION


def _age(greeting: Greeting) -> tuple[list[int], float]:
    """Return what orders builds: by release, and those of one release by when they began."""
    return [int(number) for number in re.findall(r"\d+", greeting["release"])], greeting["started_at"]


def other_owners() -> list[Any]:
    """Return the handles of the other owners in the namespace of this one."""
    import ray

    own = ray.get_runtime_context().get_actor_name()
    names = [name for name in ray.util.list_named_actors() if name.startswith(OWNER_PREFIX) and name != own]
    handles = []
    for name in names:
        # It may have ended just now.
        with suppress(ValueError):
            handles.append(ray.get_actor(name))
    return handles
