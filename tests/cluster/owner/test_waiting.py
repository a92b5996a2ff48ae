"""Those who wait, and go away while they do."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_ray.cluster.owner import waiting
from airflow_ray.cluster.owner.bell import Bell
from tests.cluster.owner.fakes import FakeOwner, run

NAME = "d/r/t/-1"


def test_all_who_wait_are_woken_and_nobody_else():
    async def test() -> None:
        bell = Bell()
        waiting = [asyncio.create_task(bell.wait(60.0)) for _ in range(3)]
        await asyncio.sleep(0)
        bell.ring()
        await asyncio.gather(*waiting)
        late = asyncio.create_task(bell.wait(60.0))
        await asyncio.sleep(0)
        assert not late.done()
        late.cancel()
        await asyncio.wait([late])
        assert not bell._waiters

    run(test())


def test_watcher_that_goes_away_leaves_nothing():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(NAME)
        watch = asyncio.create_task(owner.waiting.watch("triggerer", [(NAME, None, None)], 60.0))
        await asyncio.sleep(0)
        watch.cancel()
        await asyncio.wait([watch])
        assert not owner.waiting._latest_watch

    run(test())


@pytest.mark.parametrize("way", ["poll", "watch"])
def test_who_waits_for_longer_than_a_follower_may_be_away_still_follows_when_lines_come(monkeypatch, way):
    monkeypatch.setattr(waiting, "WATCH_UNREAD_BYTES", 0)

    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(NAME)
        record = owner.records.get(NAME)
        ask = owner.waiting.poll(NAME, 0, 60.0) if way == "poll" else owner.waiting.watch("t", [(NAME, None, 0)], 60.0)
        asked = asyncio.create_task(ask)
        await asyncio.sleep(0)
        record.read_at = time.monotonic() - 60.0
        await owner.waiting.append_log(record, ["a line"])
        await asked
        assert record.is_followed

    run(test())


def test_actor_is_ended_though_ray_cancels_the_call_that_tells_of_it_with_its_work():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit(NAME)
        record = owner.records.get(NAME)
        async with owner.records.lock(NAME):
            told = owner.records.take_belonging(NAME, record.attempt, "actors", b"actor")
            telling = asyncio.create_task(told)
            await asyncio.sleep(0)
            telling.cancel()
            await asyncio.wait([telling])
            await owner.records.discard(NAME)
        while not owner.ray.ended_actors:  # noqa: ASYNC110
            await asyncio.sleep(0)

    run(test())
