"""Restores that end while something else happens to the record."""

from __future__ import annotations

import asyncio

from ray.exceptions import NodeDiedError, WorkerCrashedError

from airflow_ray.cluster.protocol import FailureKind
from tests.cluster.owner.fakes import FakeOwner, run, until

KEY = "return_value"
NAME = ("d/r/t/-1", KEY)


async def _restore_under_way(owner: FakeOwner) -> asyncio.Task:
    owner.ray.restore_gate.clear()
    restore = asyncio.create_task(owner.restoring.restore(*NAME, {}, None, None))
    await until(lambda: owner.ray.restores)
    return restore


def test_restore_that_ends_after_the_producer_was_run_again_leaves_the_new_value():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(NAME[0], "old")
        owner.ray.lost = {"old"}
        await owner.outputs.forget_if_lost(*NAME)
        restore = await _restore_under_way(owner)
        await owner.make(NAME[0], "new")
        owner.ray.restore_gate.set()
        await restore
        assert owner.records.get(NAME[0]).refs == {KEY: "new"}

    run(test())


def test_restore_does_not_bring_back_what_was_released_meanwhile():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(NAME[0], "old")
        owner.ray.lost = {"old"}
        await owner.outputs.forget_if_lost(*NAME)
        restore = await _restore_under_way(owner)
        await owner.records.discard(NAME[0])
        owner.ray.restore_gate.set()
        await restore
        assert owner.records.get(NAME[0]) is None

    run(test())


def test_two_who_ask_for_one_output_restore_it_once():
    async def test() -> None:
        owner = FakeOwner()
        restore = await _restore_under_way(owner)
        second = asyncio.create_task(owner.restoring.restore(*NAME, {}, None, None))
        await asyncio.sleep(0)
        owner.ray.restore_gate.set()
        assert [await restore, await second, owner.ray.restores] == [None, None, 1]

    run(test())


def test_reader_that_was_lost_with_its_node_or_its_connection_is_followed_by_another():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.restore_errors = [WorkerCrashedError(), NodeDiedError("the node died")]
        assert await owner.restoring.restore(*NAME, {}, None, None) is None
        assert owner.ray.restores == 3

    run(test())


def test_checkpoint_that_ends_each_process_which_reads_it_is_told():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.restore_errors = [WorkerCrashedError() for _ in range(4)]
        error = await owner.restoring.restore(*NAME, {}, None, None)
        assert error is not None
        assert (error["kind"], len(owner.ray.restore_errors)) == (FailureKind.WORKER_CRASHED, 1)

    run(test())


def test_loss_that_is_noted_late_leaves_what_was_restored_meanwhile():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(NAME[0], "old")
        owner.ray.lost = {"old"}
        owner.ray.look_gate.clear()
        late = asyncio.create_task(owner.outputs.forget_if_lost(*NAME))
        await asyncio.sleep(0)
        record = owner.records.get(NAME[0])
        record.lose_output(KEY, "old")
        await owner.restoring.restore(*NAME, {}, None, None)
        owner.ray.look_gate.set()
        assert [await late, record.refs, record.lost] == [False, {KEY: "restored"}, set()]

    run(test())


def test_two_outputs_of_one_record_that_nobody_knows_are_both_restored():
    async def test() -> None:
        owner = FakeOwner()
        await asyncio.gather(*(owner.restoring.restore(NAME[0], key, {}, None, None) for key in ("a", "b")))
        assert sorted(owner.records.get(NAME[0]).refs) == ["a", "b"]

    run(test())


def test_output_that_was_not_restored_with_the_first_is_lost_and_can_be_restored_later():
    async def test() -> None:
        owner = FakeOwner()
        await owner.restoring.restore(NAME[0], "a", {}, None, None)
        assert owner.outputs.find(NAME[0], "b")[1]["state"] == "LOST"
        await owner.restoring.restore(NAME[0], "b", {}, None, None)
        assert sorted(owner.records.get(NAME[0]).refs) == ["a", "b"]

    run(test())


def test_one_who_asks_while_what_was_restored_waits_to_be_taken_restores_nothing():
    async def test() -> None:
        owner = FakeOwner()
        async with owner.records.lock(NAME[0]):
            restores = [asyncio.create_task(owner.restoring.restore(*NAME, {}, None, None)) for _ in range(2)]
            await until(lambda: owner.ray.restores)
            for _ in range(10):
                await asyncio.sleep(0)
            restores.append(asyncio.create_task(owner.restoring.restore(*NAME, {}, None, None)))
            await asyncio.sleep(0)
        assert [await asyncio.gather(*restores), owner.ray.restores] == [[None] * 3, 1]

    run(test())


def test_restored_object_has_its_whole_time_to_live_before_it():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(NAME[0], "old")
        record = owner.records.get(NAME[0])
        record.lose_output(KEY, "old")
        record.used_at = 0.0
        await owner.restoring.restore(*NAME, {}, None, None)
        assert record.used_at > 0.0

    run(test())


def test_object_that_is_restored_while_another_of_that_name_is_put_is_there_too():
    async def test() -> None:
        owner = FakeOwner()
        restore = await _restore_under_way(owner)
        await owner.submissions.adopt(NAME[0], "other", ["ref"], [], {}, None)
        owner.ray.restore_gate.set()
        await restore
        assert sorted(owner.records.get(NAME[0]).refs) == ["other", KEY]

    run(test())
