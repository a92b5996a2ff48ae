"""When an owner ends: when it is empty, and another build is there or nobody has had any use for it for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ray.cluster.owner import records, retirement
from airflow_ray.cluster.owner.calls import Calls, counted, uncounted
from airflow_ray.cluster.owner.retirement import Retirement
from airflow_ray.cluster.protocol import MESSAGES_VERSION, Greeting
from tests.cluster.owner.fakes import FakeOwner, run, until

if TYPE_CHECKING:
    from collections.abc import Coroutine

GREETING: Greeting = {"release": "1", "build": "b", "messages": MESSAGES_VERSION, "oldest_messages": MESSAGES_VERSION}
# Turns of the loop in which an owner that was to end would have ended.
TURNS = 50


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(retirement, "IDLE_SECONDS", 0.001)
    monkeypatch.setattr(retirement, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(retirement, "END_SECONDS", 0.0)


class Ending:
    """An owner that waits for its end."""

    def __init__(self) -> None:
        self.owner = FakeOwner()
        self.calls = Calls()
        self.transfers = 0
        self.while_counting: Coroutine[Any, Any, Any] | None = None
        self._retirement = Retirement(GREETING, _NoElders(), self.owner.records, self._count, self.calls)  # type: ignore[arg-type]
        self.owner.records.listen(self.owner.waiting.notify, self._retirement.end_if_empty)
        self.retire = self._retirement.retire
        self.end = asyncio.get_running_loop().create_task(self._retirement.until_end())

    async def goes_on(self) -> bool:
        """Whether it has not ended though there was time for it."""
        for _ in range(TURNS):
            await asyncio.sleep(0.002)
        return not self.end.done()

    async def _count(self) -> int:
        while_counting, self.while_counting = self.while_counting, None
        if while_counting is not None:
            await while_counting
        return self.transfers


class _NoElders:
    async def meet(self) -> str | None:
        return None


def test_owner_without_records_and_calls_ends_and_nobody_has_come_in_its_place():
    async def test() -> None:
        assert await Ending().end is False

    run(test())


def test_owner_that_was_replaced_says_so_when_it_is_empty():
    async def test() -> None:
        ending = Ending()
        await ending.owner.make("d/r/t/-1", "ref")
        assert ending.retire("2") is False
        await ending.owner.records.discard("d/r/t/-1")
        assert await ending.end is True

    run(test())


def test_owner_with_work_or_an_object_goes_on_until_that_is_released():
    async def test() -> None:
        ending = Ending()
        await ending.owner.submit("d/r/t/-1")
        assert await ending.goes_on()
        ending.owner.ray.tasks[-1].end(return_value="ref")
        await ending.owner.ended("d/r/t/-1")
        assert await ending.goes_on()
        await ending.owner.records.discard("d/r/t/-1")
        assert await ending.end is False

    run(test())


def test_newer_release_that_comes_while_the_others_are_met_takes_the_new_work():
    class Elders(_NoElders):
        async def meet(self) -> str | None:
            retired.retire("3")
            return None

    async def test() -> None:
        assert (await retired.refusal() or {}).get("newer_release") == "3"

    retired = Retirement(GREETING, Elders(), FakeOwner().records, None, Calls())  # type: ignore[arg-type]
    retired.retire("2")
    run(test())


def test_owner_goes_on_while_a_value_is_on_its_way():
    async def test() -> None:
        ending = Ending()
        ending.transfers = 1
        assert await ending.goes_on()
        ending.transfers = 0
        await ending.end

    run(test())


def test_owner_that_is_about_to_be_ended_answers_nobody_any_more():
    async def test() -> None:
        ending = Ending()
        await ending.end
        asked = asyncio.create_task(ending.calls.admit())
        await asyncio.wait([asked], timeout=0.1)
        assert not asked.done()
        asked.cancel()

    run(test())


def test_owner_goes_on_while_work_comes_as_the_values_on_their_way_are_counted():
    async def test() -> None:
        ending = Ending()
        ending.while_counting = ending.owner.submit("d/r/t/-1")
        assert await ending.goes_on()

    run(test())


def test_owner_goes_on_while_somebody_waits_for_an_answer():
    async def test() -> None:
        ending = Ending()
        with ending.calls.one():
            assert await ending.goes_on()
        await ending.end

    run(test())


def test_owner_goes_on_for_a_while_after_a_call(monkeypatch):
    async def test() -> None:
        ending = Ending()
        monkeypatch.setattr(retirement, "IDLE_SECONDS", 1000.0)
        with ending.calls.one():
            pass
        assert await ending.goes_on()
        monkeypatch.setattr(retirement, "IDLE_SECONDS", 0.0)
        await ending.end

    run(test())


def test_work_that_failed_is_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(records, "FORGET_SECONDS", 0.01)

    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.ray.tasks[-1].end(error={"kind": "callable"})
        await until(lambda: owner.records.get("d/r/t/-1") is None)
        await owner.make("d/r/t/-1", "ref")
        assert owner.records.get("d/r/t/-1").ttl is None

    run(test())


def test_work_that_left_no_object_is_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(records, "FORGET_SECONDS", 0.01)

    async def test() -> None:
        owner = FakeOwner()
        await owner.make("d/r/with an object/-1", "ref")
        await owner.submit("d/r/t/-1")
        owner.ray.tasks[-1].end()
        await until(lambda: owner.records.get("d/r/t/-1") is None)
        assert owner.records.get("d/r/with an object/-1") is not None

    run(test())


def test_work_whose_actor_serves_on_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(records, "FORGET_SECONDS", 0.01)

    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.records.get("d/r/t/-1").actors.append(b"actor")
        owner.ray.tasks[-1].end()
        assert (await owner.ended("d/r/t/-1"))["ttl"] is None

    run(test())


def test_time_to_live_of_the_connection_holds_for_work_that_failed_too():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1", ttl=1000.0)
        owner.ray.tasks[-1].end(error={"kind": "callable"})
        assert (await owner.ended("d/r/t/-1"))["ttl"] == 1000.0

    run(test())


class _Shown:
    seen: list[float]
    calls: Calls

    async def sample(self) -> None:
        self.seen.append(self.calls.seconds_without())


@counted
class _Desk(_Shown):
    def __init__(self) -> None:
        self.calls = Calls()
        self.seen: list[float] = []

    async def describe(self) -> None:
        self.seen.append(self.calls.seconds_without())

    async def until_end(self) -> None:
        await asyncio.sleep(0.001)
        self.seen.append(self.calls.seconds_without())

    async def _inner(self) -> Any:
        raise NotImplementedError


def test_call_of_who_only_looks_is_no_use_of_the_owner():
    async def test() -> None:
        desk = _Desk()
        await asyncio.sleep(0.001)
        await uncounted(desk, "describe")()
        await uncounted(desk, "sample")()
        assert min(desk.seen) > 0.0

    run(test())


def test_calls_of_clients_are_counted_and_the_wait_for_the_end_is_none():
    async def test() -> None:
        desk = _Desk()
        await desk.describe()
        await desk.until_end()
        assert desk.seen[0] == 0.0
        assert desk.seen[1] > 0.0

    run(test())
