"""Who waits in vain and what is said of it, with looks at a cluster that are made up."""

from __future__ import annotations

import asyncio

import pytest

from airflow_ray.cluster.owner import stalls
from airflow_ray.cluster.owner.cluster_look import ACTOR, GROUP, TASK, Holder, Look, Node, Waiter
from airflow_ray.cluster.owner.stall_watch import StallWatch
from airflow_ray.cluster.owner.stalls import Stalls, Work, who_holds
from airflow_ray.cluster.protocol import FailureKind, State
from tests.cluster.owner.fakes import FakeOwner, run

WORK = Work("dag/run/train/-1", "train", None, frozenset(), 1)
OTHER = Work("dag/run/other%20one/3", "other", None, frozenset(), 1)
ONE = {"CPU": 1.0}


def look(waiters=(), holders=(), nodes=({"CPU": 2.0},), free=0.0, makers=(), busy=(), addable=None):
    seen = [Node(f"node {number}", total, {"CPU": free}) for number, total in enumerate(nodes)]
    placeless = frozenset(each.key for each in waiters)
    return Look(seen, list(waiters), list(holders), dict(makers), frozenset(busy), placeless, addable)


def waiting(kind=ACTOR, *asks, key="waiter", name="Trainer", maker="train", strategy=""):
    return Waiter(key, kind, name, asks or (ONE,), strategy, maker)


def holding(key, kind=TASK, name="", holds=None, maker="owner", lends=False, users=None):
    return Holder(key, kind, name, holds or ONE, "node 0", maker, lends, frozenset(users or {key}))


TASK_ITSELF = holding("train", name="run")
ACTOR_OF_ITS = holding("a", ACTOR, "Trainer", maker="train")


def judged(seen, *works, after=30.0):
    judge = Stalls().judge
    works = works or (WORK, OTHER)
    judge(seen, list(works), 0.0)
    return judge(seen, list(works), after).get(works[0].record_id)


def test_actor_waits_for_what_the_task_itself_holds():
    stall = judged(look([waiting()], [TASK_ITSELF, ACTOR_OF_ITS]))
    assert stall.detail == (
        "resources that the task holds itself: actor Trainer that asks for {'CPU': 1}. Free in the cluster: "
        "{'CPU': 0}. Held by the task itself {'CPU': 1}, its actor Trainer {'CPU': 1}, which come free only when they "
        "end. Give the task num_cpus=0, since it only waits for what it has started, or give the cluster more"
    )


def test_child_tasks_wait_for_what_actors_hold_that_do_nothing():
    idle = [holding(each, ACTOR, "Trainer", maker="train") for each in "ab"]
    seen = look([waiting(TASK, key=each, name="lengths") for each in "cd"], idle)
    stall = judged(seen)
    assert "2 times child task lengths that asks for {'CPU': 1}." in stall.detail
    assert "Held by 2 times its actor Trainer {'CPU': 1}" in stall.detail
    assert stall.detail.endswith(
        "Let its actors and placement groups leave room for child tasks, or give the cluster more"
    )


def test_placement_group_of_a_trial_waits_for_what_trials_hold():
    group = holding("g", GROUP, maker="", users={"trial"})
    seen = look(
        [waiting(GROUP, ONE, ONE, name="", maker="trial")], [group], makers={"trial": "train"}, busy={"trial", "train"}
    )
    stall = judged(seen, WORK._replace(groups=frozenset({"g"})))
    assert "placement group that asks for 2 times {'CPU': 1}." in stall.detail
    assert "Held by its placement group {'CPU': 1}, which" in stall.detail
    assert "tune.PlacementGroupFactory" in stall.detail


def test_trials_that_wait_for_those_that_compute_are_no_stall():
    group = holding("g", GROUP, holds={"CPU": 2.0}, maker="", users={"trial"})
    seen = look([waiting(GROUP, name="")], [group], makers={"trial": "train"}, busy={"trial"})
    assert judged(seen, WORK._replace(groups=frozenset({"g"}))) is None


def test_child_tasks_that_wait_for_each_other_s_turn_are_no_stall():
    running = [holding(each, name="part", maker="train") for each in "ab"]
    assert judged(look([waiting(TASK)], running, busy={"a", "b"})) is None


def test_child_task_that_waits_for_its_own_child_is_a_stall():
    parents = [holding(each, name="part", maker="train") for each in "ab"]
    seen = look([waiting(TASK, key=each, maker=maker) for each, maker in ("ca", "db")], parents, busy={"a", "b"},
                makers={"a": "train", "b": "train"})  # fmt: skip
    assert "Held by 2 times its child task part {'CPU': 1}" in judged(seen).detail


def test_cpus_of_a_task_that_waits_in_ray_get_are_not_held():
    assert judged(look([waiting()], [holding("train", lends=True)], nodes=[ONE], free=1.0)) is None


def test_what_others_hold_is_told_with_their_names():
    stall = judged(look([waiting()], [holding("other"), holding("x", ACTOR, "Served", maker="")]))
    assert stall.detail == (
        "resources inside the task: actor Trainer that asks for {'CPU': 1}. Free in the cluster: {'CPU': 0}. Held by "
        "task 'other one' with map index 3 of DAG 'dag' in run 'run' {'CPU': 1}, "
        "actor Served of another program {'CPU': 1}"
    )


def test_what_waits_only_for_seconds_is_not_told():
    assert judged(look([waiting()], [TASK_ITSELF, ACTOR_OF_ITS]), after=5.0) is None


def test_waiter_of_one_task_is_not_told_of_another():
    assert judged(look([waiting()], [TASK_ITSELF, ACTOR_OF_ITS]), OTHER, WORK) is None


@pytest.mark.parametrize(
    "waiter",
    [
        waiting(ACTOR, {"CPU": 3.0}),
        waiting(TASK, {"GPU": 1.0}),
        waiting(GROUP, *[ONE] * 5),
        waiting(GROUP, ONE, {"CPU": 2.0}, strategy="STRICT_PACK"),
        waiting(GROUP, ONE, ONE, ONE, strategy="STRICT_SPREAD"),
    ],
    ids=["actor", "child task", "larger than all nodes", "larger than one node", "more than there are nodes"],
)
def test_what_no_node_can_ever_give_fails_the_work_at_once(waiter):
    error = judged(look([waiter], nodes=[{"CPU": 2.0}, {"CPU": 2.0}])).error
    assert error["kind"] == FailureKind.CHILD_INFEASIBLE.value
    assert error["what"].startswith(f"{waiter.kind} Trainer that asks for ")
    assert error["nodes"] == [{"CPU": 2.0}, {"CPU": 2.0}]


AGAIN = waiting(TASK, {"CPU": 1.0, "away": 1.0}, key="train", name="run", maker="owner")


def judged_again(work, after, addable=None):
    """Return what is said of work whose node has gone, so many seconds after Ray began to look for another."""
    return judged(look([AGAIN], nodes=[{"CPU": 4.0}], addable=addable), work, after=after)


def test_work_whose_node_was_lost_says_what_it_waits_for():
    assert judged_again(WORK, after=9.0).detail == (
        "resources to run again, since its process or node was lost: asked for {'CPU': 1, 'away': 1}. Free in the "
        "cluster: {'CPU': 0, 'away': 0}. No node has so much yet."
    )


def test_work_that_has_just_begun_is_not_told_to_wait():
    judge, seen = Stalls().judge, look([AGAIN], nodes=[{"CPU": 4.0}])
    for starts in (0, 1, 2):
        work = WORK._replace(starts=starts)
        assert judge(seen, [work], 30.0 * starts) == {}
    assert judge(seen, [work], 90.0).keys() == {WORK.record_id}


def test_work_that_has_not_run_yet_is_not_told_to_run_again():
    assert judged_again(WORK._replace(starts=0), after=30.0) is None


def test_work_whose_node_does_not_come_back_fails():
    assert judged_again(WORK, after=stalls.RETURN_SECONDS - 1).error is None
    assert judged_again(WORK, after=stalls.RETURN_SECONDS).error["kind"] == FailureKind.INFEASIBLE.value


def test_work_whose_node_the_autoscaler_may_replace_goes_on_waiting():
    addable = {"CPU": 2.0, "away": 1.0}
    assert judged_again(WORK, after=stalls.RETURN_SECONDS, addable=addable).error is None


def test_work_whose_node_was_lost_fails_when_its_scheduling_timeout_is_over():
    work = WORK._replace(timeout=20.0)
    assert judged_again(work, after=19.0).error is None
    error = judged_again(work, after=20.0).error
    assert (error["kind"], error["seconds"]) == (FailureKind.SCHEDULING_TIMEOUT.value, 20.0)


@pytest.mark.parametrize(
    "waiter",
    [waiting(GROUP, *[ONE] * 4), waiting(GROUP, ONE, ONE, strategy="STRICT_PACK"), waiting(ACTOR, {"CPU": 2.0})],
    ids=["spread", "packed", "actor"],
)
def test_what_nodes_can_give_does_not_fail(waiter):
    assert judged(look([waiter], nodes=[{"CPU": 2.0}, {"CPU": 2.0}])) is None


def test_what_the_autoscaler_may_add_is_waited_for():
    stall = judged(look([waiting(ACTOR, {"CPU": 8.0})], addable={"CPU": 8.0}))
    assert stall.detail.endswith("asks for {'CPU': 8}, for which the nodes that there are have no room")


def test_what_a_node_had_that_has_just_gone_is_waited_for():
    judge = Stalls().judge
    judge(look(nodes=[{"CPU": 8.0}]), [WORK], 0.0)
    gone = look([waiting(ACTOR, {"CPU": 4.0})], nodes=[])
    judge(gone, [WORK], 10.0)
    assert judge(gone, [WORK], 30.0)[WORK.record_id].detail.endswith("for which the nodes that there are have no room")
    assert judge(gone, [WORK], 1_000.0)[WORK.record_id].error is not None


def test_scheduling_timeout_holds_for_what_no_node_has_yet():
    work = WORK._replace(timeout=60.0)
    seen = look([waiting(ACTOR, {"CPU": 3.0})])
    told = "resources inside the task: actor Trainer that asks for {'CPU': 3}, which no node has yet"
    assert judged(seen, work, after=30.0).detail == told
    assert judged(seen, work, after=61.0).error["reason"] == " It has waited for scheduling_timeout=60 seconds."


def test_who_holds_names_at_most_five():
    many = [holding(f"a{number}", ACTOR, f"A{number}", maker="train") for number in range(8)]
    assert who_holds(look(holders=many), [WORK], {"CPU"}).endswith(", 3 more")


def test_holders_of_other_resources_are_not_named():
    assert who_holds(look(holders=[TASK_ITSELF]), [WORK], {"GPU"}) == ""


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(stalls, "STALLED_SECONDS", 0.0)


async def watched(owner, seen):
    """Have work run that ``seen`` is of, and return its record and who has looked."""
    await owner.submit("dag/run/train/-1")
    record = owner.records.get("dag/run/train/-1")
    await owner.submissions.announce_start(record.record_id, record.attempt, "run", "node", 1)
    owner.ray.seen = seen
    watch = StallWatch(owner.records, owner.ray)
    await watch.look()
    return record, watch


def test_state_shows_a_stall_until_it_is_over(at_once):
    async def test():
        owner = FakeOwner()
        seen = look([waiting(maker="task")], [holding("task", name="run"), ACTOR_OF_ITS._replace(maker="task")])
        record, watch = await watched(owner, seen)
        assert (await owner.waiting.poll(record.record_id, None, 0.0))["detail"].startswith("resources that the task")
        owner.ray.seen = None
        await watch.look()
        assert record.detail
        owner.ray.seen = look()
        await watch.look()
        assert record.describe()["detail"] is None

    run(test())


def test_work_that_waits_for_what_cannot_come_is_stopped(at_once):
    async def test():
        owner = FakeOwner()
        record, _ = await watched(owner, look([waiting(ACTOR, {"CPU": 3.0}, maker="task")]))
        assert record.state == State.FAILED
        assert record.error["kind"] == FailureKind.CHILD_INFEASIBLE.value
        assert owner.ray.cancelled == owner.ray.tasks

    run(test())


def test_work_that_begins_again_while_it_is_judged_is_not_told_to_wait(at_once):
    async def test():
        owner = FakeOwner()
        again = look([AGAIN._replace(key="task")], nodes=[{"CPU": 4.0}])
        record, watch = await watched(owner, again)
        assert record.detail.startswith("resources to run again")
        async with owner.records.lock(record.record_id):
            looking = asyncio.ensure_future(watch.look())
            # It has judged by then, and waits for the lock.
            for _ in range(10):
                await asyncio.sleep(0)
            record.starts, record.detail = 2, None
        await looking
        assert record.detail is None

    run(test())
