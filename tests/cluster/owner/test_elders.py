"""What the owner of a newer build asks of one whose release knows less."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from ray.exceptions import ActorUnavailableError

from airflow_ray.cluster.owner import elders as elders_module
from airflow_ray.cluster.owner.elders import Elders
from tests.cluster.owner.fakes import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ATTEMPT = {"fingerprint": "f", "holder": "h", "checkpoint": None, "storage": None}


class FakeElder:
    """Answers as the actor of an owner does, and notes with what it was attached to."""

    def __init__(self, messages: int, release: str = "0.1") -> None:
        self._answers = {
            "greet": {"release": release, "build": "old", "messages": messages, "oldest_messages": messages},
            "retire": False,
            "describe": {},
            "attach": {"attached": "RUNNING"},
            "release": [],
        }
        self.attached: list[dict] = []
        self.released: list[list[str]] = []
        self.attach_error: Exception | None = None
        self.retired_for: str | None = None
        self.silent: set[str] = set()
        self.speaks = asyncio.Event()
        self.asked: list[str] = []
        # As one of 1.0.0rc1 does with what it does not know itself.
        self.asks_back: Callable[[str], Awaitable[Any]] | None = None

    def __getattr__(self, method: str):
        if method not in self._answers:
            raise AttributeError(method)

        class Method:
            @staticmethod
            def options(**_options):
                return Method

            @staticmethod
            async def remote(*args, **kwargs):
                return await self._answer(method, *args, **kwargs)

        return Method

    async def _answer(self, method: str, *args, **kwargs):
        self.asked.append(method)
        if method in self.silent:
            await self.speaks.wait()
        if method == "describe" and self.asks_back is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.asks_back(args[0]), 0.1)
        if method == "attach":
            self.attached.append(kwargs)
            if self.attach_error is not None:
                raise self.attach_error
        if method == "release":
            self.released.append(args[0])
        if method == "retire":
            self.retired_for = args[0]
        return self._answers[method]


@pytest.mark.parametrize(
    ("messages", "number", "expected"),
    [
        (7, 2, {**ATTEMPT, "task_try": {"number": 2, "run": "r", "clearings": 0}}),
        (6, 2, ATTEMPT),
        (6, 1, {**ATTEMPT, "fingerprint": None}),
    ],
    ids=["same messages", "retry", "first try"],
)
def test_older_owner_is_asked_in_words_that_it_knows(messages, number, expected):
    async def test() -> None:
        elder = FakeElder(messages)
        greeting = {"release": "0.2", "build": "new", "messages": 7, "oldest_messages": 5}
        elders = Elders(greeting, lambda: [elder])
        await elders.meet()
        task_try = {"number": number, "run": "r", "clearings": 0}
        answer = await elders.attach("d/r/t/-1", {**ATTEMPT, "task_try": task_try})
        assert (answer, elder.attached) == ({"attached": "RUNNING"}, [expected])

    run(test())


@pytest.mark.parametrize(
    ("error", "released"),
    [(None, [["d/r/t/-1"]]), (ActorUnavailableError("reset", None), [])],
    ids=["other work", "no answer"],
)
def test_work_of_an_older_owner_is_forgotten_only_where_that_one_says_that_it_is_another(error, released):
    async def test() -> None:
        elder = FakeElder(7)
        elder._answers["attach"], elder.attach_error = {}, error
        elders = Elders({"release": "0.2", "build": "new", "messages": 7, "oldest_messages": 5}, lambda: [elder])
        await elders.meet()
        assert await elders.attach("d/r/t/-1", dict(ATTEMPT)) == {}
        assert elder.released == released

    run(test())


@pytest.mark.parametrize("greets", [True, False], ids=["since it was met", "from the beginning"])
def test_work_does_not_begin_anew_while_an_older_owner_that_may_have_it_is_silent(monkeypatch, greets):
    async def test() -> None:
        elder = FakeElder(7)
        elders = Elders({"release": "0.2", "build": "new", "messages": 7, "oldest_messages": 5}, lambda: [elder])
        monkeypatch.setattr(elders_module, "GREETING_SECONDS", 0.01)
        elder.silent = {"describe"} if greets else {"describe", "greet"}
        await elders.meet()
        attached = asyncio.create_task(elders.attach("d/r/t/-1", dict(ATTEMPT)))
        # Nor is it taken for lost meanwhile.
        holder = asyncio.create_task(elders.holder_of("d/r/t/-1"))
        await asyncio.sleep(0.1)
        assert [attached.done(), holder.done()] == [False, False]
        elder.silent = set()
        elder.speaks.set()
        assert (await attached, await holder) == ({"attached": "RUNNING"}, elder)

    run(test())


@pytest.mark.parametrize(
    ("release", "elder", "newer"), [("1.0.0", "1.0.0rc1", "1.0.0"), ("1.0.0rc1", "1.0.0", None), ("1.0", "1.0", None)]
)
def test_only_the_owner_of_a_newer_release_asks_the_other_to_retire(release, elder, newer):
    async def test() -> None:
        other = FakeElder(7, elder)
        await Elders({"release": release, "build": "new", "messages": 7, "oldest_messages": 5}, lambda: [other]).meet()
        assert other.retired_for == newer

    run(test())


def test_older_owner_that_asks_back_for_what_neither_knows_is_asked_once():
    async def test() -> None:
        elder = FakeElder(7)
        elders = Elders({"release": "0.2", "build": "new", "messages": 7, "oldest_messages": 5}, lambda: [elder])
        await elders.meet()
        elder._answers["describe"], elder.asks_back = None, elders.holder_of
        assert await elders.holder_of("d/r/t/-1") is None
        assert elder.asked.count("describe") == 1

    run(test())


def test_all_who_meet_the_others_at_once_hear_of_a_newer_release():
    async def test() -> None:
        newer = FakeElder(7, "2")
        elders = Elders({"release": "1", "build": "old", "messages": 7, "oldest_messages": 5}, lambda: [newer])
        assert await asyncio.gather(elders.meet(), elders.meet()) == ["2", "2"]

    run(test())


def elders_of(*others: FakeElder, release: str = "1") -> Elders:
    greeting = {"release": release, "build": "own", "messages": 7, "oldest_messages": 5}
    return Elders(greeting, lambda: list(others))


async def until_asked(elder: FakeElder, method: str) -> None:
    while method not in elder.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_newer_owner_is_known_to_who_meets_it_while_somebody_else_asks_it_for_work(monkeypatch):
    async def test() -> None:
        newer = FakeElder(7, "2")
        newer.silent = {"greet"}
        elders = elders_of(newer)
        with monkeypatch.context() as soon:
            soon.setattr(elders_module, "GREETING_SECONDS", 0.01)
            assert await elders.meet() is None
        looking, meeting = asyncio.create_task(elders.holder_of("d/r/t/-1")), asyncio.create_task(elders.meet())
        await asyncio.sleep(0.01)
        newer.speaks.set()
        assert (await meeting, await looking) == ("2", newer)

    run(test())


def test_work_that_came_to_an_owner_while_it_is_looked_for_elsewhere_is_attached_to():
    async def test() -> None:
        has_it, hangs = FakeElder(7), FakeElder(7)
        has_it._answers["describe"], hangs.silent = None, {"describe"}
        elders = elders_of(has_it, hangs)
        await elders.meet()
        looking = asyncio.create_task(elders.holder_of("d/r/t/-1"))
        await until_asked(has_it, "describe")
        await until_asked(hangs, "describe")
        has_it._answers["describe"] = {}
        assert await elders.attach("d/r/t/-1", dict(ATTEMPT)) == {"attached": "RUNNING"}
        hangs.speaks.set()
        await looking

    run(test())


def test_owner_that_hangs_holds_up_the_news_of_no_other_work(monkeypatch):
    monkeypatch.setattr(elders_module, "ELDERS_SECONDS", 0.01)

    async def watch(watcher, wanted, timeout):
        return [{"ended": True}] * len(wanted)

    async def test() -> None:
        hangs = FakeElder(7)
        hangs.silent = {"describe"}
        elders = elders_of(hangs)
        await elders.meet()
        wanted = [("d/r/not begun/-1", None, None), ("d/r/own/-1", None, None)]
        watched = elders.watch(watch, ["d/r/not begun/-1"], "triggerer", wanted, 60.0)
        # Of the first nothing is said: it may be with the one that hangs.
        assert await asyncio.wait_for(watched, 30.0) == [None, {"ended": True}]
        hangs.speaks.set()

    run(test())
