"""How an attempt ends, whatever becomes of its inputs, its outputs and its record meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import ObjectLostError, RayTaskError, TaskCancelledError, WorkerCrashedError

from airflow_ray.cluster.owner import attempt
from airflow_ray.cluster.owner.environments import Environments
from airflow_ray.cluster.owner.scheduling import ClusterView, Scheduling
from airflow_ray.cluster.protocol import FailureKind, State
from airflow_ray.cluster.values.description import type_name
from tests.cluster.owner.fakes import FakeOwner, run, until

LOST = {"kind": "callable", "message": "an object was lost"}
KEY = "return_value"


class TextFailsError(Exception):
    def __str__(self):
        raise KeyError("no text")


async def _consumer_of_two(owner: FakeOwner) -> None:
    await owner.make("d/r/a/-1", "ref a")
    await owner.make("d/r/b/-1", "ref b")
    await owner.submit("d/r/c/-1", inputs=[("d/r/a/-1", KEY, "store"), ("d/r/b/-1", KEY, "store")])


def test_two_consumers_of_two_lost_inputs_both_end():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        first = owner.ray.tasks[-1]
        await owner.submit("d/r/d/-1", inputs=[("d/r/a/-1", KEY, "store"), ("d/r/b/-1", KEY, "store")])
        second = owner.ray.tasks[-1]
        owner.ray.lost = {"ref a", "ref b"}
        owner.ray.look_gate.clear()
        first.end(error=LOST, lost_object=True)
        second.end(error=LOST, lost_object=True)
        await asyncio.sleep(0.05)
        owner.ray.look_gate.set()
        for record_id in ("d/r/c/-1", "d/r/d/-1"):
            error = (await owner.ended(record_id))["error"]
            assert (error["kind"], error["lost"]) == (FailureKind.INPUT_LOST, [("d/r/a/-1", KEY), ("d/r/b/-1", KEY)])

    run(test())


def test_consumer_of_an_input_that_was_released_meanwhile_ends():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        await owner.records.discard("d/r/a/-1")
        owner.ray.tasks[-1].break_off(ObjectLostError("00", None, ""))
        assert (await owner.ended("d/r/c/-1"))["error"]["lost"] == [("d/r/a/-1", KEY)]

    run(test())


def test_object_that_a_callable_has_lost_itself_is_no_lost_input():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        await owner.records.discard("d/r/a/-1")
        owner.ray.tasks[-1].end(error=LOST, lost_object=True)
        assert (await owner.ended("d/r/c/-1"))["error"] == LOST

    run(test())


def test_work_ends_though_ray_does_not_say_whether_an_input_is_lost(monkeypatch):
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        monkeypatch.setattr(owner.ray, "are_lost", _fail)
        owner.ray.tasks[-1].end(error=LOST, lost_object=True)
        assert (await owner.ended("d/r/c/-1"))["state"] == State.FAILED

    run(test())


async def _fail(refs):
    raise ConnectionError("no answer")


def test_consumer_ends_whose_producer_is_run_again_while_its_loss_is_looked_into():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        consumer = owner.ray.tasks[-1]
        owner.ray.lost = {"ref a"}
        owner.ray.look_gate.clear()
        consumer.end(error=LOST, lost_object=True)
        await asyncio.sleep(0.05)
        await owner.submit("d/r/a/-1")
        owner.ray.look_gate.set()
        assert (await owner.ended("d/r/c/-1"))["state"] == State.FAILED

    run(test())


def test_work_succeeds_though_nobody_knows_what_was_spilled():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.size = attempt.SPILL_CHECK_BYTES + 1
        owner.ray.spilled = [100, None]
        await owner.make("d/r/t/-1", "ref")
        record = owner.records.get("d/r/t/-1")
        assert (record.state, record.spilled_bytes) == (State.SUCCEEDED, 0)

    run(test())


def test_what_was_spilled_before_the_work_began_is_not_counted_to_it():
    async def test() -> None:
        owner = FakeOwner()
        owner.ray.size = attempt.SPILL_CHECK_BYTES + 1
        owner.ray.spilled = [100, 130]
        await owner.make("d/r/t/-1", "ref")
        assert owner.records.get("d/r/t/-1").spilled_bytes == 30

    run(test())


def test_end_of_an_attempt_that_another_has_replaced_changes_nothing():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        await owner.submit("d/r/t/-1")
        before, after = owner.ray.tasks
        before.end(return_value="of the first")
        after.end(return_value="of the second")
        await owner.ended("d/r/t/-1")
        assert owner.records.get("d/r/t/-1").refs == {KEY: "of the second"}

    run(test())


def test_output_that_needs_a_missing_package_is_told_so_and_not_as_a_crash():
    async def test() -> None:
        owner = FakeOwner()
        cause = ModuleNotFoundError("here_only")
        owner.ray.unreadable = RayTaskError("value_around", "No module named 'here_only'", cause)
        await owner.submit("d/r/t/-1")
        task = owner.ray.tasks[-1]
        task.end(return_value="apart")
        (await task._header)["objects"][KEY] = ["inner"]
        error = (await owner.ended("d/r/t/-1"))["error"]
        assert (error["kind"], "here_only" in error["message"]) == (FailureKind.NOT_READABLE, True)

    run(test())


def test_input_that_no_worker_can_unpickle_is_named():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        owner.ray.reasons = {"ref b": {"type": "LookupError", "message": "not today", "traceback": "its line"}}
        owner.ray.tasks[-1].break_off(RayTaskError("run", "Traceback", LookupError("not today")))
        error = (await owner.ended("d/r/c/-1"))["error"]
        assert (error["kind"], error["record_id"], error["key"]) == (FailureKind.INPUT_NOT_READABLE, "d/r/b/-1", KEY)

    run(test())


@pytest.mark.parametrize("cause", [OSError("no descriptors"), TextFailsError()], ids=["plain", "without text"])
def test_error_before_the_callable_is_not_told_as_one_of_its_result(cause):
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        owner.ray.tasks[-1].break_off(RayTaskError("run", "Traceback", cause))
        error = (await owner.ended("d/r/c/-1"))["error"]
        assert (error["kind"], error["type"]) == (FailureKind.RAY, type_name(cause))

    run(test())


def test_work_that_is_cancelled_before_its_callable_begins_is_cancelled():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        owner.ray.tasks[-1].break_off(TaskCancelledError())
        assert (await owner.ended("d/r/c/-1"))["state"] == State.CANCELLED

    run(test())


def test_work_whose_process_dies_ends():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.ray.tasks[-1].break_off(WorkerCrashedError())
        assert (await owner.ended("d/r/t/-1"))["error"]["kind"] == FailureKind.WORKER_CRASHED

    run(test())


class _FailingView(ClusterView):
    """A cluster whose control service does not answer."""

    def take(self):
        raise ConnectionError("no answer")


def test_scheduling_timeout_fires_though_ray_does_not_say_what_the_cluster_has(monkeypatch):
    async def test() -> None:
        owner = FakeOwner()
        monkeypatch.setattr(owner.submissions, "_view", _FailingView())
        await owner.submit("d/r/t/-1", scheduling_timeout=0.05)
        assert (await owner.ended("d/r/t/-1"))["error"]["kind"] == FailureKind.SCHEDULING_TIMEOUT

    run(test())


def test_watch_for_scheduling_goes_on_after_a_call_that_failed():
    scheduling = Scheduling({"num_cpus": 1}, None, _FailingView(), Environments(), lambda names: "")
    told = "resources: asked for {'CPU': 1}; Ray does not say what the cluster has: no answer"
    assert scheduling.check().detail == told


def test_work_that_is_cancelled_while_its_outputs_are_kept_has_none():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        record = owner.records.get("d/r/t/-1")
        owner.ray.copy_gate.clear()
        task = owner.ray.tasks[-1]
        task.end(return_value="apart")
        (await task._header)["objects"][KEY] = ["inner"]
        await until(lambda: owner.ray.copies)
        await owner.submissions.cancel("d/r/t/-1", None)
        owner.ray.copy_gate.set()
        await until(lambda: not owner.submissions._attempts)
        assert (record.state, record.refs, record.outputs) == (State.CANCELLED, {}, {})

    run(test())


def test_record_tells_what_the_work_has_used_read_and_written():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        owner.ray.tasks[-1].end(first="ref 1", second="ref 2")
        record = await owner.ended("d/r/c/-1")
        assert (record["used"]["memory"], record["read_bytes"], record["written_bytes"]) == (10, 16, 16)

    run(test())


def test_work_that_fails_tells_what_it_has_used_too():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        owner.ray.tasks[-1].end(error={"kind": "callable"})
        record = await owner.ended("d/r/c/-1")
        assert (record["used"]["memory"], record["read_bytes"], record["written_bytes"]) == (10, 16, 0)

    run(test())


def test_nothing_is_told_of_what_was_read_where_an_input_is_not_known_any_more():
    async def test() -> None:
        owner = FakeOwner()
        await _consumer_of_two(owner)
        await owner.records.discard("d/r/a/-1")
        owner.ray.tasks[-1].end(return_value="ref")
        assert (await owner.ended("d/r/c/-1"))["read_bytes"] is None

    run(test())


class NotToBeAwaited:
    """The output of a user's callable: to await it would unpickle it in the owner."""

    def __await__(self):
        raise AssertionError("An output was fetched")


@pytest.mark.parametrize("refs", [[], [NotToBeAwaited()], [NotToBeAwaited()] * 3], ids=["none", "fewer", "more"])
def test_work_that_ray_ran_again_to_other_outputs_fails(refs):
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/a/-1")
        record = owner.records.get("d/r/a/-1")
        assert record is not None
        record.starts = 2
        owner.ray.tasks[-1].end_otherwise(*refs, **{KEY: "ref"})
        error = (await owner.ended("d/r/a/-1"))["error"]
        assert error["kind"] == FailureKind.WORKER_CRASHED
        assert "it ended with other outputs" in error["message"]

    run(test())


def test_work_that_ray_ran_again_has_the_outputs_of_the_run_that_ended():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/first/-1")
        await owner.submit("d/r/a/-1")
        first, task = owner.ray.tasks
        first.end(b="of the run that ended")
        task.end_otherwise("ref", await first.__anext__(), a="ref")
        assert list((await owner.ended("d/r/a/-1"))["outputs"]) == ["b"]

    run(test())


def test_error_in_the_place_of_an_output_is_told():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/a/-1")
        broken = asyncio.get_running_loop().create_future()
        broken.set_exception(WorkerCrashedError())
        owner.ray.lost = {broken}
        owner.ray.tasks[-1].end_otherwise(broken, a="ref", b="ref")
        assert (await owner.ended("d/r/a/-1"))["error"]["kind"] == FailureKind.WORKER_CRASHED

    run(test())


@pytest.mark.parametrize(
    ("ends", "made"),
    [
        pytest.param({}, None, id="goes-on"),
        pytest.param({"b": "ref b", "a": "ref a"}, ["b", "a"], id="has-succeeded"),
        pytest.param({"error": LOST}, None, id="has-failed"),
    ],
)
def test_runner_learns_what_its_first_run_has_left(ends, made):
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/a/-1")
        record = owner.records.get("d/r/a/-1")
        assert record is not None
        if ends:
            owner.ray.tasks[-1].end(**ends)
            await owner.ended("d/r/a/-1")
        assert owner.records.made_outputs("d/r/a/-1", record.attempt) == made
        assert owner.records.made_outputs("d/r/a/-1", "another") == []

    run(test())


def test_object_that_somebody_has_put_beside_them_is_not_of_the_work():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make("d/r/a/-1", "ref a")
        await owner.submissions.adopt("d/r/a/-1", "put", ["ref"], [], {}, None)
        record = owner.records.get("d/r/a/-1")
        assert record is not None
        assert [*record.refs] == [KEY, "put"]
        assert owner.records.made_outputs("d/r/a/-1", record.attempt) == [KEY]

    run(test())
