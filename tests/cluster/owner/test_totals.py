"""What all records of an owner come to, with a Ray that does what a test tells it to."""

from __future__ import annotations

import asyncio

from airflow_ray.cluster.protocol import State
from tests.cluster.owner.fakes import FakeOwner, run

WORK = "d/r/t/-1"


def totals_of(owner: FakeOwner) -> tuple[int, int, int]:
    told = owner.records.totals.told()
    return told["waiting"], told["running"], told["bytes_held"]


def test_totals_follow_work_from_its_submission_to_its_release():
    async def test() -> None:
        owner = FakeOwner()
        assert totals_of(owner) == (0, 0, 0)
        await owner.submit(WORK)
        assert totals_of(owner) == (1, 0, 0)
        await owner.submissions.announce_start(WORK, owner.ray.tasks[-1].attempt, "run", "node", 1)
        assert totals_of(owner) == (0, 1, 0)
        owner.ray.tasks[-1].end(one="ref", two="ref")
        await owner.ended(WORK)
        assert totals_of(owner) == (0, 0, 16)
        await owner.records.discard(WORK)
        assert totals_of(owner) == (0, 0, 0)

    run(test())


def test_work_in_place_of_other_work_takes_its_place_in_the_totals():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(WORK, "ref")
        await owner.submit(WORK)
        await owner.submit(WORK)
        assert totals_of(owner) == (1, 0, 0)

    run(test())


def test_work_that_was_cancelled_waits_no_more():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(WORK, holder="holder")
        await owner.submissions.cancel(WORK, "holder")
        assert totals_of(owner) == (0, 0, 0)

    run(test())


def test_object_that_is_lost_is_not_held_until_it_is_restored():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(WORK, "ref")
        owner.ray.lost.add("ref")
        await owner.outputs.forget_if_lost(WORK, "return_value")
        assert totals_of(owner) == (0, 0, 0)
        await owner.restoring.restore(WORK, "return_value", {}, None, None)
        assert totals_of(owner) == (0, 0, 8)

    run(test())


def test_object_that_a_client_puts_in_place_of_another_is_held_once():
    async def test() -> None:
        owner = FakeOwner()
        for _ in range(2):
            await owner.submissions.adopt(WORK, "return_value", [object()], [], {"type": "object"}, None)
        assert totals_of(owner) == (0, 0, 8)

    run(test())


def test_spilled_bytes_are_those_that_were_last_known():
    async def test() -> None:
        owner = FakeOwner()
        assert owner.records.totals.told()["bytes_spilled"] is None
        owner.ray.spilled, owner.ray.size = [100, 700], 2_000_000
        await owner.make(WORK, "ref")
        assert owner.records.totals.told()["bytes_spilled"] == 700

    run(test())


def test_end_of_work_comes_with_totals_in_which_it_has_ended():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(WORK)
        poll = asyncio.create_task(owner.waiting.poll(WORK, None, 10.0))
        watch = asyncio.create_task(owner.waiting.watch_with_totals("watcher", [(WORK, None, None)], 10.0))
        await asyncio.sleep(0)
        owner.ray.tasks[-1].end(return_value="ref")
        ended = {"waiting": 0, "running": 0, "bytes_held": 8, "bytes_spilled": 0}
        answer, (news, last) = await poll, await watch
        assert (answer["state"], answer["totals"]) == (State.SUCCEEDED.value, ended)
        assert (news["ended"], last) == (True, {"totals": ended})

    run(test())


def test_totals_come_with_no_news_too():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(WORK)
        assert (await owner.waiting.poll(WORK, None, 0.0))["totals"]["waiting"] == 1
        assert (await owner.waiting.poll("unknown", None, 0.0))["totals"]["waiting"] == 1
        assert (await owner.waiting.watch_with_totals("watcher", [(WORK, None, None)], 0.0))[0] is None

    run(test())
