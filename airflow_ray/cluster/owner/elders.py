"""Owners of other builds in the same namespace: the newest takes all new work, the others finish what they have."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION, OWNER_PREFIX
from airflow_ray.cluster.releases import order_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from airflow_ray.cluster.owner.waiting import Wanted
    from airflow_ray.cluster.protocol import Greeting, TaskTry

# One that does not answer holds up no connection, and nobody who looks at all that there is.
GREETING_SECONDS = 5.0
# One that is silent may have the work that is asked for, which would run twice if it began anew, or be taken for lost.
ANSWER_SECONDS = 60.0
# Of the messages, since which an owner knows of the tries of a task.
TRY_MESSAGES = 7
# Between two looks at what they have, while somebody waits for that: it happens after an upgrade only.
ELDERS_SECONDS = 1.0


class Elders:
    """Asks the owners of other builds for what this one does not know.

    :param greeting: of this owner.
    :param list_others: returns the handles of the other owners of the namespace.
    """

    def __init__(self, greeting: Greeting, list_others: Callable[[], list[Any]]) -> None:
        self._greeting = greeting
        self._list_others = list_others
        self._handles: list[Any] = []
        # Those that have not answered yet.
        self._silent: list[Any] = []
        # What is being asked for, by the record that is looked for, or the handle that is greeted.
        self._under_way: dict[Any, asyncio.Task[Any]] = {}
        # Guards the lists: a meeting makes them anew.
        self._meeting = asyncio.Lock()
        self._begun = 0
        # The number of the last meeting that came to its end, and what it has brought.
        self._met: tuple[int, str | None] = 0, None
        # As a global it would keep this package from being sent to the cluster.
        self._are_left_out: ContextVar[bool] = ContextVar("are_left_out", default=False)

    async def meet(self) -> str | None:
        """Let those of older builds retire, and return the release of a newer one, if one stays that has something.

        Of two builds of one release neither is newer: each serves whoever has its code, and ends when it is empty.
        """
        # One that begins from here on: one under way may have begun before somebody came.
        number = self._begun + 1
        async with self._meeting:
            if self._met[0] < number:
                self._begun += 1
                number = self._begun
                self._met = number, await self._meet_all()
            return self._met[1]

    async def _meet_all(self) -> str | None:
        self._handles, self._silent = [], self._list_others()
        releases = await asyncio.gather(*(self._meet(handle, GREETING_SECONDS) for handle in self._silent))
        return next(filter(None, releases), None)

    async def holder_of(self, record_id: str) -> Any:
        """Return the handle of the one that knows a record, or None."""
        if self._are_left_out.get():
            return None
        # An owner of 1.0.0rc1 that does not know it either asks back here, and would be asked again without end.
        return await self._joined(record_id, functools.partial(self._search, record_id))

    async def _search(self, record_id: str) -> Any:
        async def asked(handle: Any) -> Any:
            told = await self._ask_when_met(handle, ANSWER_SECONDS, "describe", record_id)
            return None if told is None else handle

        for answer in asyncio.as_completed([asked(handle) for handle in self._all()]):
            if (holder := await answer) is not None:
                return holder
        return None

    async def find(self, record_id: str, key: str, collect: bool = False) -> tuple[list[Any], int] | None:
        """Return the ref of an output that one of them has, in a list, and its bytes."""
        holder = await self.holder_of(record_id)
        if holder is None:
            return None
        answer = await self._ask(holder, "find", record_id, key, collect, seconds=ANSWER_SECONDS)
        return (answer[0], answer[1]) if answer and answer[0] else None

    async def attach(self, record_id: str, attempt: dict[str, Any]) -> Any:
        """Attach to work that one of them has; work there that is another is stopped and forgotten."""
        from ray.exceptions import RayActorError

        # A look-up that is under way may have asked the one that has got the work since.
        holder = await self._search(record_id)
        if holder is None:
            return {}
        try:
            answer = await self._attach(holder, record_id, attempt)
        # Whether it is the same work is not known: it stays.
        except RayActorError:
            return {}
        if not answer:
            await self._ask(holder, "release", [record_id])
        return answer

    async def watch(
        self,
        watch: Callable[..., Awaitable[Any]],
        unknown: list[str],
        watcher: str,
        wanted: list[Wanted],
        timeout: float,
    ) -> Any:
        """Return what ``watch`` does, and of those records that this owner does not know what the others tell.

        :param watch: ``watch_with_totals`` of the :class:`~airflow_ray.cluster.owner.waiting.Waiting` of this owner.
        :param unknown: the ids of these records.
        """
        deadline = time.monotonic() + timeout
        searches = {each: asyncio.ensure_future(self.holder_of(each)) for each in set(unknown)}
        try:
            while True:
                # One that is silent may have them, and keeps nobody from the news of the rest.
                if under_way := [each for each in searches.values() if not each.done()]:
                    await asyncio.wait(under_way, timeout=ELDERS_SECONDS)
                holders = {each: search.result() if search.done() else None for each, search in searches.items()}
                not_own = {each for each, search in searches.items() if not search.done() or holders[each] is not None}
                left = max(0.0, deadline - time.monotonic())
                if not not_own:
                    return await watch(watcher, wanted, left)
                answers = await watch(
                    watcher, [each for each in wanted if each[0] not in not_own], min(left, ELDERS_SECONDS)
                )
                if answers is None:
                    return None
                own_answers = iter(answers)
                news = [
                    await self._news_of(holders[each[0]], watcher, each) if each[0] in not_own else next(own_answers)
                    for each in wanted
                ]
                if left <= 0 or any(each is not None for each in news):
                    return news
        finally:
            for search in searches.values():
                search.cancel()

    async def _news_of(self, holder: Any, watcher: str, wanted: Wanted) -> Any:
        """Return what the one that has a record tells of it, and nothing while that one is still looked for."""
        if holder is None:
            return None
        return (await self._ask(holder, "watch", watcher, [wanted], 0.0) or [None])[0]

    async def ask_all(self, method: str, *args: Any, seconds: float = ANSWER_SECONDS) -> list[Any]:
        """Return what each of them answers; one that has ended answers nothing.

        :param seconds: in which each must answer.
        """
        answers = await asyncio.gather(*(self._ask_when_met(each, seconds, method, *args) for each in self._all()))
        return [each for each in answers if each is not None]

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Ask none of them meanwhile: two owners would ask each other without end."""
        token = self._are_left_out.set(True)
        try:
            yield
        finally:
            self._are_left_out.reset(token)

    async def _joined(self, name: Any, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what the question about this that is under way brings, or a new one."""
        if name not in self._under_way:
            task = self._under_way[name] = asyncio.get_running_loop().create_task(begin())
            task.add_done_callback(lambda _: self._under_way.pop(name))
        # Whoever asked first may go away; the others wait on.
        return await asyncio.shield(self._under_way[name])

    def _all(self) -> list[Any]:
        return [] if self._are_left_out.get() else [*self._handles, *self._silent]

    async def _ask_when_met(self, handle: Any, seconds: float, method: str, *args: Any) -> Any:
        """Return what :meth:`_ask` does, of one that may have been silent until now; both within ``seconds``."""
        until = time.monotonic() + seconds
        if handle in self._silent:
            await self._meet(handle, seconds)
        # One that has just answered the greeting is asked in earnest.
        left = max(GREETING_SECONDS, until - time.monotonic())
        return await self._ask(handle, method, *args, seconds=left) if handle in self._handles else None

    async def _meet(self, handle: Any, seconds: float) -> str | None:
        """Take note of one that answers in time, and return its release where it is newer and stays."""
        with suppress(asyncio.TimeoutError):
            release: str | None = await asyncio.wait_for(
                self._joined(handle, functools.partial(self._greet, handle)), seconds
            )
            return release
        return None

    async def _greet(self, handle: Any) -> str | None:
        greeting: Greeting | None = await self._ask(handle, "greet", seconds=ANSWER_SECONDS)
        if greeting is None:
            return None
        if handle in self._silent:
            self._silent.remove(handle)
        if not _speaks(greeting):
            return None
        if handle not in self._handles:
            self._handles.append(handle)
        own, other = order_of(self._greeting["release"]), order_of(greeting["release"])
        # A newer one that is empty makes way: somebody has gone back to an older release.
        ends = await self._ask(handle, "retire", self._greeting["release"] if own > other else None)
        return greeting["release"] if other > own and not ends else None

    async def _attach(self, holder: Any, record_id: str, attempt: dict[str, Any]) -> Any:
        greeting: Greeting | None = await self._ask(holder, "greet")
        if greeting is not None and greeting["messages"] < TRY_MESSAGES:
            attempt = dict(attempt)
            task_try: TaskTry | None = attempt.pop("task_try", None)
            if task_try is not None and task_try["number"] <= 1:
                attempt["fingerprint"] = None
        return await holder.attach.options(max_task_retries=-1).remote(record_id, **attempt)

    async def _ask(self, handle: Any, method: str, *args: Any, seconds: float = GREETING_SECONDS) -> Any:
        """Return what one of them answers, or None where it has ended, is silent or knows no such question."""
        from ray.exceptions import ActorDiedError, RayActorError

        try:
            knows_owners = hasattr(handle, "answer_owner")
            call = getattr(handle, "answer_owner" if knows_owners else method)
            # Each may be asked twice: a connection that was reset is no answer.
            ref = call.options(max_task_retries=-1).remote(*((method, args) if knows_owners else args))
            return await asyncio.wait_for(_answer(ref), seconds)
        except ActorDiedError:
            for handles in (self._handles, self._silent):
                if handle in handles:
                    handles.remove(handle)
        except (AttributeError, RayActorError, asyncio.TimeoutError):
            pass
        return None


def of_record(method: Callable[..., Any]) -> Callable[..., Any]:
    """Pass a call of an owner on to that of another build which knows the record, where this one does not.

    :param method: of an owner with ``_records`` and ``_elders``; its first argument is the id of the record.
    """

    @functools.wraps(method)
    async def call(self: Any, record_id: str, *args: Any, **kwargs: Any) -> Any:
        from ray.exceptions import ActorDiedError

        if self._records.get(record_id) is None and (elder := await self._elders.holder_of(record_id)) is not None:
            # It may end just now, and its record with it.
            with suppress(ActorDiedError):
                forwarded = getattr(elder, method.__name__).options(max_task_retries=-1)
                return await forwarded.remote(record_id, *args, **kwargs)
        return await method(self, record_id, *args, **kwargs)

    return call


async def _answer(ref: Any) -> Any:
    return await ref


def _speaks(greeting: Greeting) -> bool:
    """Whether two owners have a version of the messages in common."""
    return greeting["messages"] >= OLDEST_MESSAGES_VERSION and greeting["oldest_messages"] <= MESSAGES_VERSION


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
