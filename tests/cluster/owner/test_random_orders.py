"""Calls that meet: whichever of what waits goes first, and however late the machine is, the rules hold.

A test that fails prints its ``seed``; ``@example(seed=…)`` above it runs that order again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ray.cluster.owner import waiting
from tests.cluster.owner.driven import TARGET, LedgerRay, left_in, owner_on, without_cluster
from tests.cluster.owner.fakes import PAYLOAD, PAYLOAD_REF, until
from tests.cluster.owner.orders import Stuck, run_ordered
from tests.conftest import examples

NAME = "d/r/t/-1"
KEY = "return_value"
LINE = "x" * 99


class Scene:
    """An owner, its Ray, and what tests do with them."""

    def __init__(self) -> None:
        self.ray = LedgerRay({(NAME, KEY): "restored"})
        self.owner = owner_on(self.ray)
        self.loop = asyncio.get_running_loop()

    async def submit(self, payload: Any = PAYLOAD, **more: Any) -> Any:
        return await self.owner.submit(NAME, payload, {}, [], {"max_retries": 0}, **more)

    def end(self) -> None:
        task = self.ray.work_of(NAME)
        assert task is not None
        self.ray.end(task, **{KEY: "made"})

    async def make(self, **more: Any) -> None:
        await self.submit(**more)
        self.end()
        while "record" not in await self.owner.poll(NAME, None, 5.0):
            pass

    async def lose(self) -> None:
        await self.make()
        self.ray.lost = {"made"}
        await self.owner.forget_if_lost(NAME, KEY)

    def readable(self) -> bool:
        record = self.owner._records.get(NAME)
        return record is not None and KEY in record.refs

    async def at(self, moment: float, call: Coroutine[Any, Any, Any]) -> Any:
        """Return what a call returns that is made at this moment, before or after whatever else happens then."""
        due = self.loop.create_future()
        self.loop.call_at(moment, due.set_result, None)
        await due
        return await call

    async def is_empty(self) -> None:
        await self.owner.release(None)
        assert self.ray.under_way == []
        # Until then looks go on that find no work; where the machine is slow, others are late.
        await asyncio.sleep(100.0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert left_in(self.owner) == {}


def in_any_order(slowness: float = 0.1) -> Callable[..., Callable[..., None]]:
    """Have a test run in orders of many seeds, each with a scene of its own.

    :param slowness: as for :class:`~tests.cluster.owner.orders.OrderedLoop`.
    """

    def decorated(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[..., None]:
        async def play() -> None:
            scene = Scene()
            await test(scene)
            await scene.is_empty()

        def run(seed: int) -> None:
            with without_cluster():
                run_ordered(seed, play, slowness)

        for name in ("__name__", "__qualname__", "__module__"):
            setattr(run, name, getattr(test, name))
        return pytest.mark.faults(examples(40, 3000)(given(seed=st.integers(0, 2**32 - 1))(run)))

    return decorated


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    return list(await asyncio.gather(*calls))


@in_any_order()
async def test_what_is_submitted_and_cancelled_by_its_holder_at_once_does_not_run_on(scene):
    answer, is_stopped = await together(scene.submit(holder="h"), scene.owner.cancel(NAME, "h"))
    assert (scene.ray.under_way, is_stopped) == ([], "error" not in answer)


@in_any_order()
async def test_one_submission_that_comes_three_times_begins_once(scene):
    await together(*(scene.submit(submission="s") for _ in range(3)))
    assert len(scene.ray.tasks) == 1


@in_any_order()
async def test_submission_that_comes_three_times_is_never_told_of_itself_as_of_another_try(scene):
    calls = [scene.submit([PAYLOAD_REF], fingerprint="f", submission="s") for _ in range(3)]
    assert [answer for answer in await together(*calls) if "attached" in answer] == []


@in_any_order()
async def test_retry_that_asks_again_goes_on_with_the_work_it_has_attached_to(scene):
    tries = [{"number": number, "run": "r", "clearings": 0} for number in (1, 2)]
    await scene.submit(fingerprint="f", task_try=tries[0], holder="first", submission="one")
    retry = {"fingerprint": "f", "task_try": tries[1], "holder": "second"}
    await together(
        scene.owner.attach(NAME, **retry, checkpoint=None, storage=None),
        *(scene.submit(**retry, submission="two") for _ in range(2)),
    )
    assert len(scene.ray.tasks) == 1


@in_any_order()
async def test_later_submission_takes_the_place_of_the_earlier_whole(scene):
    await together(scene.submit(fingerprint="f"), scene.submit(fingerprint="g"), scene.owner.poll(NAME, None, 50.0))
    assert [len(scene.ray.tasks), len(scene.ray.under_way), len(scene.ray.cancelled)] == [2, 1, 1]


@in_any_order()
async def test_tries_that_attach_as_the_work_ends_take_what_it_made(scene):
    tries = [{"number": number, "run": "r", "clearings": 0} for number in (1, 2)]
    await scene.submit(fingerprint="f", task_try=tries[0])

    async def end() -> None:
        scene.end()

    answer, _ = await together(scene.submit(fingerprint="f", task_try=tries[1]), end())
    assert (answer["attached"] in ("PENDING", "SUCCEEDED"), len(scene.ray.tasks)) == (True, 1)
    await until(scene.readable)


@in_any_order()
async def test_release_as_the_work_ends_leaves_nothing(scene):
    await scene.submit()

    async def end() -> None:
        if scene.ray.work_of(NAME) is not None:
            scene.end()

    await together(scene.owner.release(None, "d", "r"), end(), scene.owner.poll(NAME, None, 1e6))
    await asyncio.sleep(1.0)
    assert (scene.owner._records.get(NAME), scene.ray.under_way) == (None, [])


@in_any_order(slowness=0.0)
async def test_object_that_is_read_as_its_time_is_over_stays_or_was_never_there(scene):
    await scene.make(ttl=50.0)
    refs, _, error = await scene.at(scene.loop.time() + 50.0, scene.owner.find(NAME, KEY))
    assert bool(refs) == (error is None)
    await asyncio.sleep(40.0)
    assert scene.readable() == bool(refs)


@in_any_order(slowness=0.0)
async def test_result_that_a_retry_takes_as_its_time_is_over_stays(scene):
    a_try = {"run": "r", "clearings": 0}
    await scene.make(ttl=50.0, fingerprint="f", task_try={"number": 1, **a_try})
    again = scene.submit(ttl=50.0, fingerprint="f", task_try={"number": 2, **a_try})
    answer = await scene.at(scene.loop.time() + 49.0, again)
    assert answer["attached"] == "SUCCEEDED"
    await asyncio.sleep(40.0)
    assert scene.readable()


@in_any_order(slowness=0.0)
async def test_object_that_is_restored_as_the_time_of_its_work_is_over_stays(scene):
    await scene.make(ttl=50.0)
    scene.ray.lost = {"made"}
    await scene.owner.forget_if_lost(NAME, KEY)
    restored = scene.owner.restore([(NAME, KEY, TARGET)], None, 50.0)
    assert await scene.at(scene.loop.time() + 49.0, restored) == [None]
    await asyncio.sleep(40.0)
    assert scene.readable()


@in_any_order()
async def test_object_that_many_ask_for_is_restored_once(scene):
    await scene.lose()

    async def hold() -> None:
        async with scene.owner._records.lock(NAME):
            await asyncio.sleep(1.0)

    await together(hold(), *(scene.owner.restore([(NAME, KEY, TARGET)], None, None) for _ in range(3)))
    assert (scene.readable(), scene.ray.restores) == (True, 1)


@in_any_order()
async def test_object_that_is_restored_as_its_work_begins_anew_is_not_in_the_way(scene):
    await scene.lose()
    await together(scene.owner.restore([(NAME, KEY, TARGET)], None, None), scene.submit())
    scene.end()
    while "record" not in await scene.owner.poll(NAME, None, 5.0):
        pass
    assert scene.owner._records.get(NAME).refs == {KEY: "made"}


@in_any_order(slowness=0.0)
async def test_all_who_watch_hear_of_the_end(scene):
    await scene.submit()

    async def end() -> None:
        scene.end()

    watches = [scene.owner.watch(who, [(NAME, key, None)], 1e6) for who, key in (("a", None), ("b", KEY), ("c", None))]
    _, *news = await together(end(), *watches)
    assert [each["state"] for each, *_ in news] == ["SUCCEEDED"] * 3


@in_any_order(slowness=0.0)
async def test_watcher_that_asks_again_as_the_work_ends_hears_of_the_end(scene):
    await scene.submit()

    async def end() -> None:
        scene.end()

    calls = [scene.owner.watch("a", [(NAME, None, None)], 1e6) for _ in range(3)]
    _, *answers = await together(end(), *calls)
    # A call that a newer one took the place of says nothing, and the newest says all.
    assert "SUCCEEDED" in [each[0]["state"] for each in answers if each is not None]


@in_any_order()
async def test_who_goes_away_while_waiting_is_in_nobodys_way(scene):
    await scene.submit()
    calls = [scene.owner.poll(NAME, 0, 1e6), scene.owner.watch("a", [(NAME, None, None)], 1e6)]
    gone = [asyncio.ensure_future(call) for call in calls]
    other = asyncio.ensure_future(scene.owner.poll(NAME, 0, 1e6))
    await together(*(_cancel(task) for task in gone), _end_soon(scene))
    while "record" not in (answer := await other):
        other = asyncio.ensure_future(scene.owner.poll(NAME, answer["offset"], 1e6))
    assert answer["state"] == "SUCCEEDED"


@in_any_order()
async def test_lines_that_wait_for_a_reader_end_when_their_work_is_replaced(scene):
    await scene.submit()
    attempt = scene.owner._records.get(NAME).attempt
    lines = [LINE] * (waiting.MAX_PART_BYTES // len(LINE))
    writes = [scene.owner.append_log(NAME, attempt, lines, "I" * len(lines)) for _ in range(12)]
    *_, answer = await together(scene.owner.poll(NAME, 0, 1.0), *writes, scene.submit())
    assert "error" not in answer
    assert scene.owner._records._log_bytes == scene.owner._records.get(NAME).log.bytes


@in_any_order()
async def test_actor_that_is_told_of_as_its_work_is_cancelled_ends(scene):
    await scene.submit()
    attempt = scene.owner._records.get(NAME).attempt
    await together(scene.owner.cancel(NAME), scene.owner.note_actor(NAME, attempt, b"actor"))
    assert scene.ray.ended_actors == [b"actor"]


@in_any_order()
async def test_actor_that_is_told_of_by_a_call_that_ray_cancels_with_its_work_ends(scene):
    await scene.submit()
    attempt = scene.owner._records.get(NAME).attempt
    begun = asyncio.Event()

    async def tell() -> None:
        begun.set()
        await scene.owner.note_actor(NAME, attempt, b"actor")

    async def cancel() -> None:
        await begun.wait()
        await _cancel(telling)

    telling = asyncio.ensure_future(tell())
    await together(scene.owner.cancel(NAME), cancel())
    await until(lambda: scene.ray.ended_actors)


@in_any_order()
async def test_write_that_ray_cancels_with_its_work_holds_up_nobody(scene):
    await scene.submit()
    attempt = scene.owner._records.get(NAME).attempt
    scene.owner._records.get(NAME).note_read(0)
    lines = [LINE] * (waiting.MAX_PART_BYTES // len(LINE))
    writes = [scene.owner.append_log(NAME, attempt, lines, "I" * len(lines)) for _ in range(12)]
    writing = [asyncio.ensure_future(write) for write in writes]
    await together(*(_cancel(write, twice=True) for write in writing), scene.owner.cancel(NAME))
    assert "error" not in await scene.submit()


def test_what_waits_for_ever_fails_instead_of_hanging():
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run_ordered(0, wait)


def test_same_seed_gives_the_same_order():
    def order(seed: int) -> list[int]:
        done: list[int] = []

        async def note(number: int) -> None:
            await asyncio.sleep(0)
            done.append(number)

        async def all_of_them() -> None:
            await asyncio.gather(*map(note, range(8)))

        run_ordered(seed, all_of_them)
        return done

    assert order(1) == order(1) != order(2)


async def _cancel(task: asyncio.Task[Any], twice: bool = False) -> None:
    await asyncio.sleep(0)
    task.cancel()
    if twice:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])


async def _end_soon(scene: Scene) -> None:
    await asyncio.sleep(0)
    scene.end()
