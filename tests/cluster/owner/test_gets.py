"""Somebody who gets an object that was lost, and which Ray is to make again."""

from __future__ import annotations

import asyncio
import weakref
from types import SimpleNamespace

import pytest

from airflow_ray.cluster.owner import remaking
from airflow_ray.cluster.owner.remaking import Gets
from airflow_ray.cluster.owner.scheduling import Verdict
from airflow_ray.cluster.protocol import FailureKind, State
from tests.cluster.owner.fakes import FakeOwner, run
from tests.cluster.owner.test_remaking import CONSUMER, KEY, MADE, NODES, owner_with_a_lost_input
from tests.cluster.owner.test_remaking import at_once as at_once


async def owner_with_an_object(nodes: list[dict[str, float]] | None = NODES) -> tuple[FakeOwner, Gets]:
    owner = await owner_with_a_lost_input(nodes)
    return owner, Gets(owner.records, owner.ray)  # type: ignore[arg-type]


def state_of(owner: FakeOwner) -> str | None:
    _, error = owner.outputs.find(MADE, KEY)
    return None if error is None else error["state"]


def test_nothing_is_said_of_an_object_that_is_there():
    async def test() -> None:
        owner, gets = await owner_with_an_object()
        owner.ray.missing = set()
        assert await gets.check(MADE, KEY) == Verdict()

    run(test())


def test_nothing_is_said_of_an_object_that_the_owner_does_not_know():
    async def test() -> None:
        _, gets = await owner_with_an_object()
        assert await gets.check("d/r/z/-1", KEY) == Verdict()

    run(test())


def test_task_that_makes_an_object_again_is_named():
    async def test() -> None:
        _, gets = await owner_with_an_object(None)
        verdict = await gets.check(MADE, KEY)
        assert verdict == Verdict("task 'a' of DAG 'd' in run 'r' to make an object again that was lost")

    run(test())


def test_object_that_nobody_can_make_again_is_lost_from_then_on(at_once):
    async def test() -> None:
        owner, gets = await owner_with_an_object()
        verdict = await gets.check(MADE, KEY)
        assert verdict.error is not None
        assert (verdict.error["kind"], state_of(owner)) == (FailureKind.INPUT_LOST, State.LOST)
        # Who else gets it is told so by Ray.
        assert owner.ray.cancelled == ["ref a"]

    run(test())


def test_second_who_gets_an_object_that_was_given_up_learns_that_it_is_lost(at_once):
    async def test() -> None:
        _, gets = await owner_with_an_object()
        await gets.check(MADE, KEY)
        verdict = await gets.check(MADE, KEY)
        assert verdict.error is not None

    run(test())


def test_object_that_work_still_waits_for_is_made_again_when_a_node_comes(at_once):
    async def test() -> None:
        owner, gets = await owner_with_an_object()
        await owner.submit(CONSUMER, inputs=[(MADE, KEY, "store")])
        await gets.check(MADE, KEY)
        assert owner.ray.cancelled == []

    run(test())


@pytest.mark.parametrize(
    ("seconds_between", "is_lost"),
    [
        pytest.param(50.0, True, id="who-goes-on-waiting"),
        pytest.param(remaking.FORGET_SECONDS + 1.0, False, id="who-comes-again-later"),
    ],
)
def test_node_is_waited_for_as_long_as_somebody_gets_the_object(monkeypatch, seconds_between, is_lost):
    async def test() -> None:
        owner, gets = await owner_with_an_object()
        now = 1.0
        monkeypatch.setattr(remaking, "time", SimpleNamespace(monotonic=lambda: now))
        while now < 1.0 + 2 * remaking.RETURN_SECONDS:
            await gets.check(MADE, KEY)
            now += seconds_between
        assert (state_of(owner) == State.LOST) is is_lost

    run(test())


def test_object_that_has_taken_the_place_of_another_is_waited_for_anew(at_once, monkeypatch):
    async def test() -> None:
        owner, gets = await owner_with_an_object(None)
        await gets.check(MADE, KEY)
        record = owner.records.get(MADE)
        assert record is not None
        record.refs[KEY] = "ref b"
        assert await gets.check(MADE, KEY) == Verdict()

    run(test())


def test_object_that_somebody_has_waited_for_is_freed_when_it_is_released(monkeypatch):
    class Ref:
        """What the owner holds of an object."""

    monkeypatch.setattr(remaking, "FORGET_SECONDS", -1.0)

    async def test() -> None:
        owner, gets = await owner_with_an_object(None)
        record = owner.records.get(MADE)
        assert record is not None
        record.refs[KEY] = Ref()
        freed = asyncio.Event()
        weakref.finalize(record.refs[KEY], freed.set)
        await gets.check(MADE, KEY)
        await owner.records.discard(MADE)
        await asyncio.wait_for(freed.wait(), 10)

    run(test())
