"""Work that waits for inputs that were lost, and which Ray is to make again."""

from __future__ import annotations

import pytest

from airflow_ray.cluster.owner import remaking
from airflow_ray.cluster.owner.cluster_look import Look
from airflow_ray.cluster.owner.record import Record
from airflow_ray.cluster.owner.remaking import Remaking
from airflow_ray.cluster.owner.scheduling import Verdict
from airflow_ray.cluster.owner.stall_watch import StallWatch
from airflow_ray.cluster.protocol import FailureKind, State
from tests.cluster.owner.fakes import FakeOwner, run

KEY = "return_value"
MADE, ALSO_MADE, CONSUMER, SECOND = "d/r/a/-1", "d/r/b/-1", "d/r/c/-1", "d/r/e/3"
NODES = [{"CPU": 2.0}]


async def waiting(owner: FakeOwner, record_id: str = CONSUMER, made: str = MADE) -> Remaking:
    """Submit work that takes an output of ``made``, and return who judges that."""
    await owner.submit(record_id, inputs=[(made, KEY, "store")])
    record = owner.records.get(record_id)
    assert record is not None
    return Remaking(record, owner.records, owner.ray)  # type: ignore[arg-type]


async def owner_with_a_lost_input(nodes: list[dict[str, float]] | None) -> FakeOwner:
    owner = FakeOwner()
    await owner.make(MADE, "ref a")
    owner.ray.missing, owner.ray.nodes = {"ref a"}, nodes
    return owner


async def verdict_of(judge: Remaking, is_late: bool = False) -> Verdict:
    verdict = await judge.check(is_late)
    assert verdict is not None
    return verdict


@pytest.fixture
def at_once(monkeypatch):
    """A node that has gone is not expected back."""
    monkeypatch.setattr(remaking, "RETURN_SECONDS", 0.0)


def test_nothing_is_said_where_all_inputs_are_there():
    async def test() -> None:
        owner = await owner_with_a_lost_input(None)
        owner.ray.missing = set()
        assert await (await waiting(owner)).check(is_late=False) is None

    run(test())


def test_input_that_ray_makes_again_is_named():
    async def test() -> None:
        owner = await owner_with_a_lost_input(None)
        verdict = await verdict_of(await waiting(owner))
        assert verdict.detail == "task 'a' of DAG 'd' in run 'r' to make an object again that was lost"

    run(test())


def test_time_that_making_again_takes_is_judged_as_any_other():
    async def test() -> None:
        owner = await owner_with_a_lost_input(None)
        assert await (await waiting(owner)).check(is_late=True) is None

    run(test())


def test_node_that_is_needed_to_make_an_input_again_is_waited_for():
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        verdict = await verdict_of(await waiting(owner))
        assert verdict.detail is not None
        assert verdict.detail.endswith("; it asks for {}, which no node has yet")

    run(test())


def test_head_that_does_not_say_what_the_nodes_have_stops_no_watch(monkeypatch):
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        judge = await waiting(owner)
        monkeypatch.setattr(owner.ray, "nodes_without", no_answer)
        assert await judge.check(is_late=False) is None

    run(test())


async def no_answer(asked: dict[str, float]) -> None:
    raise ConnectionError(asked)


def test_first_task_of_a_chain_that_was_lost_is_named():
    async def test() -> None:
        owner = await owner_with_a_lost_input(None)
        await owner.submit(ALSO_MADE, inputs=[(MADE, KEY, "store")])
        owner.ray.tasks[-1].end(**{KEY: "ref b"})
        await owner.ended(ALSO_MADE)
        owner.ray.missing = {"ref a", "ref b"}
        verdict = await verdict_of(await waiting(owner, made=ALSO_MADE))
        assert verdict.detail is not None
        assert verdict.detail.startswith("task 'a' ")

    run(test())


def test_input_that_nobody_can_make_again_is_lost_for_the_next_try(at_once):
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        judge = await waiting(owner)
        verdict = await verdict_of(judge)
        assert verdict.error is not None
        assert (verdict.error["kind"], verdict.error["lost"]) == (FailureKind.INPUT_LOST, [(MADE, KEY)])
        await judge.give_up()
        _, error = owner.outputs.find(MADE, KEY)
        assert error is not None
        assert error["state"] == State.LOST

    run(test())


@pytest.mark.parametrize(("is_awaited", "cancelled"), [(False, ["ref a"]), (True, [])])
def test_work_is_run_again_for_those_who_still_wait_and_not_for_nobody(at_once, is_awaited, cancelled):
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        judge = await waiting(owner)
        if is_awaited:
            await waiting(owner, SECOND)
        await judge.check(is_late=False)
        await judge.give_up()
        assert owner.ray.cancelled == cancelled

    run(test())


def test_scheduling_timeout_ends_the_wait_for_a_node_that_could_make_an_input_again():
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        verdict = await verdict_of(await waiting(owner), is_late=True)
        assert verdict.error is not None

    run(test())


def test_object_that_was_restored_meanwhile_stays_when_a_second_consumer_gives_up(at_once):
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        first, second = await waiting(owner), await waiting(owner, SECOND)
        await first.check(is_late=False)
        await first.give_up()
        assert await owner.restoring.restore(MADE, KEY, {}, None, None) is None
        verdict = await verdict_of(second)
        assert verdict.error is not None
        await second.give_up()
        assert owner.outputs.find(MADE, KEY) == ("restored", None)

    run(test())


def test_work_that_has_ended_keeps_no_input():
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        await waiting(owner)
        owner.ray.tasks[-1].end(**{KEY: "ref c"})
        await owner.ended(CONSUMER)
        record = owner.records.get(CONSUMER)
        assert record is not None
        assert record.input_refs == []

    run(test())


async def returning(nodes: list[dict[str, float]] | None) -> tuple[FakeOwner, StallWatch, Record]:
    """Have work begin that Ray is to run again, with an input that was lost, and return who looks at that."""
    owner = await owner_with_a_lost_input(nodes)
    await waiting(owner)
    record = owner.records.get(CONSUMER)
    assert record is not None
    await owner.submissions.announce_start(CONSUMER, record.attempt, "run", "node", 1)
    assert record.task_id is not None
    owner.ray.seen = Look([], [], [], {}, frozenset(), frozenset({record.task_id}), None)
    return owner, StallWatch(owner.records, owner.ray), record  # type: ignore[arg-type]


def test_work_that_is_to_run_again_says_which_task_is_to_make_its_input_again():
    async def test() -> None:
        _, watch, record = await returning(NODES)
        await watch.look()
        await watch.look()
        assert record.detail is not None
        assert record.detail.startswith("task 'a' of DAG 'd' in run 'r' to make an object again that was lost; it asks")

    run(test())


def test_first_look_that_finds_no_process_is_not_believed():
    async def test() -> None:
        _, watch, record = await returning(NODES)
        await watch.look()
        assert record.detail is None

    run(test())


def test_work_that_has_begun_again_between_two_looks_waits_for_no_input():
    async def test() -> None:
        owner, watch, record = await returning(NODES)
        await watch.look()
        await owner.submissions.announce_start(CONSUMER, record.attempt, "another run", "node", 2)
        await watch.look()
        assert record.detail is None

    run(test())


def test_work_that_is_to_run_again_fails_where_nobody_can_make_its_input(at_once):
    async def test() -> None:
        owner, watch, record = await returning(NODES)
        await watch.look()
        await watch.look()
        assert record.error is not None
        assert (record.state, record.error["lost"]) == (State.FAILED, [(MADE, KEY)])
        _, error = owner.outputs.find(MADE, KEY)
        assert error is not None
        assert error["state"] == State.LOST

    run(test())


def test_work_that_is_to_run_again_waits_for_an_input_as_long_as_its_timeout_says():
    async def test() -> None:
        _, watch, record = await returning(NODES)
        record.scheduling_timeout = 0.0
        await watch.look()
        await watch.look()
        assert record.state == State.FAILED

    run(test())


def test_work_that_is_to_run_again_says_nothing_of_an_input_that_somebody_has_released_and_that_ray_makes():
    async def test() -> None:
        owner, watch, record = await returning(None)
        await owner.records.discard(MADE)
        await watch.look()
        await watch.look()
        assert (record.state, record.detail) == (State.RUNNING, None)

    run(test())


def test_work_that_is_to_run_again_fails_when_another_has_given_up_their_input(at_once):
    async def test() -> None:
        owner, watch, record = await returning(NODES)
        other = await waiting(owner, SECOND)
        await other.check(is_late=False)
        await other.give_up()
        assert await owner.restoring.restore(MADE, KEY, {}, None, None) is None
        assert owner.ray.cancelled == []
        await watch.look()
        await watch.look()
        assert record.state == State.FAILED
        assert owner.outputs.find(MADE, KEY) == ("restored", None)

    run(test())


def test_input_that_comes_before_it_is_given_up_stays(at_once):
    async def test() -> None:
        owner = await owner_with_a_lost_input(NODES)
        judge = await waiting(owner)
        await judge.check(is_late=False)
        owner.ray.missing = set()
        await judge.give_up()
        assert owner.outputs.find(MADE, KEY) == ("ref a", None)

    run(test())
