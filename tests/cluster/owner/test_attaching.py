"""Which try of a task goes on with what an earlier one has begun, or takes what that has made."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.owner.fakes import FakeOwner, run, until

WORK = "d/r/work/-1"
INPUT = "d/r/input/-1"


def a_try(number, run="the run", clearings=0):
    return {"number": number, "run": run, "clearings": clearings}


async def begin(owner, task_try, inputs=(), **more):
    """Submit the work, and return the state of what it is attached to, or None where it begins."""
    slots = [(name, "return_value", "store") for name in inputs]
    answer = await owner.submit(WORK, fingerprint="f", task_try=task_try, inputs=slots, **more)
    assert "error" not in answer
    return answer.get("attached")


async def attach(owner, task_try, holder="holder"):
    """Try to attach, as the client does before it submits."""
    answer = await owner.submissions.attach(WORK, "f", holder, None, None, task_try)
    return answer.get("attached")


async def end(owner):
    owner.ray.tasks[-1].end(return_value="ref")
    await owner.ended(WORK)


@pytest.mark.parametrize("is_done", [False, True], ids=["running", "done"])
@pytest.mark.parametrize(
    ("earlier", "later", "attaches"),
    [
        pytest.param(a_try(1), a_try(2), True, id="retry"),
        pytest.param(a_try(1), a_try(3), True, id="retry after one that submitted nothing"),
        pytest.param(a_try(4), a_try(5), True, id="retry after a clear"),
        pytest.param(a_try(0), a_try(1), False, id="first try after a trial"),
        pytest.param(a_try(1), a_try(1), False, id="first try of a run made again"),
        pytest.param(a_try(2), a_try(2), False, id="same try again"),
        pytest.param(a_try(3), a_try(2), False, id="second try of a run made again"),
        pytest.param(a_try(1), a_try(2, run="another"), False, id="another run, or other retries"),
        pytest.param(None, a_try(2), False, id="work of no task"),
        pytest.param(a_try(1), None, False, id="no try"),
        pytest.param(None, None, True, id="work of no task again"),
    ],
)
def test_only_a_later_try_of_the_same_run_attaches(earlier, later, attaches, is_done):
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, earlier)
        if is_done:
            await end(owner)
        state = "SUCCEEDED" if is_done else "PENDING"
        assert await begin(owner, later) == (state if attaches else None)

    run(test())


@pytest.mark.parametrize("is_done", [False, True], ids=["running", "done"])
@pytest.mark.parametrize("clearings", [0, None], ids=["told of clearings", "not told"])
@pytest.mark.parametrize("again", [attach, begin], ids=["attach", "submit"])
def test_retry_whose_answer_was_lost_with_the_connection_attaches_once_more(again, clearings, is_done):
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1, clearings=clearings), holder="first", submission="one")
        retry = a_try(2, clearings=clearings)
        assert await again(owner, retry, holder="second") == "PENDING"
        if is_done:
            await end(owner)
        assert await again(owner, retry, holder="second") == ("SUCCEEDED" if is_done else "PENDING")
        assert len(owner.ray.tasks) == 1

    run(test())


def test_retry_whose_work_has_failed_begins_anew_when_it_submits_again():
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(2), holder="second")
        owner.ray.tasks[-1].end(error={"kind": "user", "type": "ValueError", "message": "", "traceback": ""})
        await owner.ended(WORK)
        assert await begin(owner, a_try(2), holder="second") is None
        assert len(owner.ray.tasks) == 2

    run(test())


@pytest.mark.parametrize(("is_done", "attached"), [(False, "PENDING"), (True, None)], ids=["running", "done"])
@pytest.mark.parametrize(
    ("before", "after"), [(0, 1), (None, None), (0, None)], ids=["cleared", "never told", "not told"]
)
def test_only_work_that_runs_outlives_a_clear_in_its_run(is_done, attached, before, after):
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1, clearings=before))
        if is_done:
            await end(owner)
        assert await begin(owner, a_try(2, clearings=after)) == attached

    run(test())


def test_third_try_takes_what_the_second_went_on_with():
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1))
        assert await begin(owner, a_try(2, clearings=1)) == "PENDING"
        await end(owner)
        assert await begin(owner, a_try(3, clearings=1)) == "SUCCEEDED"

    run(test())


@pytest.mark.parametrize(("is_done", "attached"), [(False, "PENDING"), (True, None)], ids=["running", "done"])
def test_only_work_that_runs_outlives_another_try_of_its_input(is_done, attached):
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(INPUT, "ref")
        await begin(owner, a_try(1), [INPUT])
        if is_done:
            await end(owner)
        await owner.make(INPUT, "another ref")
        assert await begin(owner, a_try(2), [INPUT]) == attached

    run(test())


def test_work_is_done_again_when_its_input_was_put_again():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.adopt(INPUT, "return_value", ["ref"], [], {}, None)
        await begin(owner, a_try(1), [INPUT])
        await end(owner)
        await owner.submissions.adopt(INPUT, "return_value", ["another ref"], [], {}, None)
        assert await begin(owner, a_try(2), [INPUT]) is None

    run(test())


def test_work_that_is_done_is_taken_though_its_input_was_released():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(INPUT, "ref")
        await begin(owner, a_try(1), [INPUT])
        await end(owner)
        await owner.records.discard(INPUT)
        assert await begin(owner, a_try(2), [INPUT]) == "SUCCEEDED"

    run(test())


def test_work_is_done_again_when_its_input_was_made_while_its_payload_was_on_its_way():
    async def test() -> None:
        owner = FakeOwner()
        await owner.make(INPUT, "ref")
        owner.ray.copy_gate.clear()
        slots = [(INPUT, "return_value", "store")]
        submitting = asyncio.create_task(
            owner.submit(WORK, [object()], fingerprint="f", task_try=a_try(1), inputs=slots)
        )
        await until(lambda: owner.ray.copies)
        await owner.make(INPUT, "another ref")
        owner.ray.copy_gate.set()
        await submitting
        await end(owner)
        assert await begin(owner, a_try(2), [INPUT]) is None

    run(test())


def test_work_is_done_again_when_its_result_is_lost_though_nobody_has_missed_it():
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1))
        await end(owner)
        owner.ray.lost.add("ref")
        assert await attach(owner, a_try(2)) is None

    run(test())


@pytest.mark.parametrize(
    ("later", "fingerprint", "reason"),
    [
        (a_try(2, clearings=1), "f", "something of its run was cleared"),
        (a_try(2, run="cleared"), "f", "the task was cleared, or its run made again"),
        (a_try(2), "other", "the function, its modules, an argument or an option has changed"),
        (a_try(1), "f", None),
    ],
    ids=["other task cleared", "cleared", "changed", "first try"],
)
def test_retry_is_told_why_it_begins_anew(later, fingerprint, reason):
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1))
        await end(owner)
        answer = await owner.submit(WORK, fingerprint=fingerprint, task_try=later)
        assert answer.get("anew") == reason

    run(test())


def test_work_that_failed_is_done_again():
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1))
        owner.ray.tasks[-1].end(error={"kind": "callable"})
        await owner.ended(WORK)
        assert await begin(owner, a_try(2)) is None

    run(test())


def test_result_that_a_retry_takes_has_its_whole_time_to_live_before_it():
    async def test() -> None:
        owner = FakeOwner()
        await begin(owner, a_try(1))
        await end(owner)
        record = owner.records.get(WORK)
        record.used_at = 0.0
        assert [await attach(owner, a_try(2)), record.used_at > 0.0] == ["SUCCEEDED", True]

    run(test())
