"""Submissions, cancellations and adoptions that come at the same time."""

from __future__ import annotations

import asyncio

from airflow_ray.cluster.owner.record import MAX_DESCRIBED_INPUTS
from airflow_ray.cluster.protocol import FailureKind, State
from tests.cluster.owner.fakes import PAYLOAD_REF, FakeOwner, run, until


def test_of_two_submissions_at_once_only_the_later_runs_on():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.copy_gate.clear()
        both = asyncio.gather(owner.submit("d/r/t/-1", [PAYLOAD_REF]), owner.submit("d/r/t/-1", [PAYLOAD_REF]))
        await asyncio.sleep(0)
        owner.ray.copy_gate.set()
        await both
        running = [task for task in owner.ray.tasks if task not in owner.ray.cancelled]
        assert [task.attempt for task in running] == [owner.records.get("d/r/t/-1").attempt]

    run(test())


def test_what_was_cancelled_before_it_was_submitted_does_not_begin():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.cancel("d/r/t/-1", "holder")
        answer = await owner.submit("d/r/t/-1", holder="holder")
        assert (answer["error"]["kind"], owner.ray.tasks) == (FailureKind.CANCELLED, [])

    run(test())


def test_what_was_cancelled_while_its_payload_was_on_its_way_does_not_begin():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.copy_gate.clear()
        submission = asyncio.create_task(owner.submit("d/r/t/-1", [PAYLOAD_REF], holder="holder"))
        await until(lambda: owner.records.lock("d/r/t/-1").locked())
        cancellation = asyncio.create_task(owner.submissions.cancel("d/r/t/-1", "holder"))
        await asyncio.sleep(0)
        owner.ray.copy_gate.set()
        answer = await submission
        await cancellation
        assert (answer["error"]["kind"], owner.ray.tasks) == (FailureKind.CANCELLED, [])

    run(test())


def test_another_try_begins_though_the_one_before_was_cancelled():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.cancel("d/r/t/-1", "first")
        assert "error" not in await owner.submit("d/r/t/-1", holder="second")

    run(test())


def test_holder_that_another_has_replaced_cancels_nothing():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1", fingerprint="f", holder="first")
        await owner.submit("d/r/t/-1", fingerprint="f", holder="second")
        assert not await owner.submissions.cancel("d/r/t/-1", "first")
        assert owner.records.get("d/r/t/-1").state == State.PENDING

    run(test())


def test_submission_that_comes_again_has_begun_already():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1", submission="one")
        first = owner.records.get("d/r/t/-1")
        assert await owner.submit("d/r/t/-1", submission="one") == {}
        assert (owner.records.get("d/r/t/-1"), len(owner.ray.tasks)) == (first, 1)

    run(test())


def test_submission_that_comes_again_while_it_begins_is_not_told_of_itself_as_of_another_try():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.copy_gate.clear()
        calls = [owner.submit("d/r/t/-1", [PAYLOAD_REF], fingerprint="f", submission="one") for _ in range(2)]
        both = asyncio.gather(*calls)
        await asyncio.sleep(0)
        owner.ray.copy_gate.set()
        assert await both == [{}, {}]
        assert len(owner.ray.tasks) == 1

    run(test())


def test_another_submission_takes_the_place_of_the_first():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1", submission="one")
        await owner.submit("d/r/t/-1", submission="two")
        assert len(owner.ray.tasks) == 2

    run(test())


def test_try_that_attaches_brings_its_own_credentials():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1", fingerprint="f", checkpoint={"keys": "old"}, storage={"options": "old"})
        answer = await owner.submit("d/r/t/-1", fingerprint="f", checkpoint={"keys": "new"}, storage={"options": "new"})
        record = owner.records.get("d/r/t/-1")
        assert answer["attached"] == "PENDING"
        assert (record.checkpoint, record.storage) == ({"keys": "new"}, {"options": "new"})

    run(test())


def test_object_that_is_added_to_an_older_record_lives_on_from_then():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.adopt("d/r/t/-1", "first", ["ref"], [], {}, 60.0)
        record = owner.records.get("d/r/t/-1")
        record.used_at -= 59.0
        await owner.submissions.adopt("d/r/t/-1", "second", ["ref"], [], {}, 60.0)
        assert (sorted(record.refs), record.seconds_left() > 30) == (["first", "second"], True)

    run(test())


def test_object_that_is_added_to_a_record_without_end_brings_its_time_to_live():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make("d/r/t/-1", "ref")
        await owner.submissions.adopt("d/r/t/-1", "second", ["ref"], [], {}, 0.01)
        await until(lambda: owner.records.get("d/r/t/-1") is None)

    run(test())


def test_release_of_a_run_waits_for_what_is_being_submitted():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.copy_gate.clear()
        submission = asyncio.create_task(owner.submit("d/r/t/-1", [PAYLOAD_REF]))
        await until(lambda: owner.records.lock("d/r/t/-1").locked())
        ids = owner.records.ids_of("d", "r")
        owner.ray.copy_gate.set()
        await submission
        assert ids == ["d/r/t/-1"]

    run(test())


def test_start_that_is_told_after_the_end_is_no_new_run_by_ray():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.ray.tasks[0].end(return_value="ref")
        record = owner.records.get("d/r/t/-1")
        await until(lambda: record.finished)
        await owner.submissions.announce_start("d/r/t/-1", record.attempt, "the run that ended", "n", 1)
        assert not record.rebuilt_at
        await owner.submissions.announce_start("d/r/t/-1", record.attempt, "a run for a lost output", "n", 1)
        assert record.rebuilt_at

    run(test())


def test_start_that_is_told_twice_is_one():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        record = owner.records.get("d/r/t/-1")
        for run_id in ("first", "first", "second"):
            await owner.submissions.announce_start("d/r/t/-1", record.attempt, run_id, "n", 1)
        assert record.starts == 2

    run(test())


def test_record_tells_what_its_inputs_were_though_they_are_released_meanwhile():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make("d/r/a/-1", "ref")
        await owner.submit("d/r/b/-1", inputs=[("d/r/a/-1", "return_value", "store")])
        await owner.records.discard("d/r/a/-1")
        owner.ray.tasks[-1].end()
        (told,) = (await owner.ended("d/r/b/-1"))["inputs"]
        assert told["output"] == {"type": "object", "bytes": 8}

    run(test())


def test_record_tells_what_the_first_of_many_inputs_were():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make("d/r/a/-1", "ref")
        await owner.submit("d/r/b/-1", inputs=[("d/r/a/-1", "return_value", "store")] * (MAX_DESCRIBED_INPUTS + 1))
        owner.ray.tasks[-1].end()
        told = (await owner.ended("d/r/b/-1"))["inputs"]
        assert [bool(each.get("output")) for each in told] == [True] * MAX_DESCRIBED_INPUTS + [False]

    run(test())
