"""What the tables of Ray's control service come to, with rows that are made up."""

from __future__ import annotations

from ray.core.generated.common_pb2 import TaskStatus
from ray.core.generated.gcs_pb2 import ActorTableData, PlacementGroupTableData, TaskEvents

from airflow_ray.cluster.owner.cluster_look import ACTOR, GROUP, TASK, Node, Reading

NODE = Node("0e", {"CPU": 2.0}, {})
ONE = {"CPU": 1.0}
RUNNER, TRIAL = b"\x01" * 24, b"\x02" * 16
TRIAL_KEY = "f" * 16 + TRIAL.hex()


def task(task_id, name, *states, maker=b"\x09" * 24, asks=ONE, worker=b"", actor=b"", group=b"", kind=0):
    row = TaskEvents(task_id=task_id)
    row.task_info.name, row.task_info.type, row.task_info.parent_task_id = name, kind, maker
    row.task_info.required_resources.update(asks)
    row.task_info.actor_id, row.task_info.placement_group_id = actor, group
    row.state_updates.worker_id, row.state_updates.node_id = worker, b"\x0e"
    for number, state in enumerate(states):
        row.state_updates.state_ts_ns[state] = number + 1
    return row


def actor(actor_id, name, made_by, worker, group=b""):
    row = ActorTableData(actor_id=actor_id, class_name=name, placement_group_id=group)
    row.owner_address.worker_id, row.address.worker_id, row.address.node_id = made_by, worker, b"\x0e"
    row.required_resources.update(ONE)
    return row


def group(group_id, state, made_by=b"", bundles=1):
    row = PlacementGroupTableData(placement_group_id=group_id, state=state, creator_actor_id=made_by)
    for _ in range(bundles):
        bundle = row.bundles.add(node_id=b"\x0e")
        bundle.unit_resources.update(ONE)
    return row


def seen(tasks=(), actors=(), groups=(), wanted=(ONE,)):
    runner = task(RUNNER, "run", TaskStatus.RUNNING, worker=b"w")
    return Reading([runner, *tasks], list(actors), list(groups)).look([NODE], list(wanted), None)


def test_child_task_and_actor_wait_by_the_names_that_their_user_knows():
    pending = TaskStatus.PENDING_NODE_ASSIGNMENT
    creation = bytes.fromhex("f" * 16) + b"\x03" * 16
    look = seen(
        [task(b"c", "part", pending, maker=RUNNER), task(creation, "A.__init__", pending, maker=RUNNER, kind=1)]
    )
    assert [(each.kind, each.name, each.maker) for each in look.waiters] == [
        (TASK, "part", RUNNER.hex()),
        (ACTOR, "A", RUNNER.hex()),
    ]


def test_task_that_has_its_resources_and_waits_for_a_process_is_no_waiter():
    assert seen([task(b"c", "part", TaskStatus.PENDING_NODE_ASSIGNMENT)], wanted=[{"CPU": 8.0}]).waiters == []


def test_tasks_that_wait_for_their_inputs_or_for_a_process_have_no_place_whatever_they_ask_for():
    look = seen(
        [
            task(b"c", "inputs", TaskStatus.PENDING_ARGS_AVAIL),
            task(b"d", "process", TaskStatus.PENDING_ARGS_AVAIL, TaskStatus.PENDING_NODE_ASSIGNMENT, asks={}),
        ]
    )
    assert look.placeless == {b"c".hex(), b"d".hex()}


def test_maker_of_a_trial_s_placement_group_is_known_up_to_the_task():
    trial = actor(TRIAL, "Trial", made_by=b"w", worker=b"v")
    look = seen(actors=[trial], groups=[group(b"g", PlacementGroupTableData.PENDING, made_by=TRIAL, bundles=2)])
    (waiter,) = look.waiters
    assert (waiter.kind, waiter.name, waiter.asks) == (GROUP, "of actor Trial", (ONE, ONE))
    assert waiter.maker == TRIAL_KEY
    assert look.makers[TRIAL_KEY] == RUNNER.hex()


def test_what_runs_in_a_placement_group_holds_nothing_beside_it():
    inside = actor(TRIAL, "Trial", made_by=b"w", worker=b"v", group=b"g")
    look = seen(actors=[inside], groups=[group(b"g", PlacementGroupTableData.CREATED)])
    assert [(each.kind, each.name) for each in look.holders] == [(TASK, "run"), (GROUP, "with actor Trial")]
    assert look.holders[1].users == {TRIAL_KEY}


def test_actor_is_busy_while_it_runs_one_of_its_calls_and_not_while_that_waits():
    call = task(b"m", "Trial.train", TaskStatus.RUNNING, actor=TRIAL, kind=2)
    assert TRIAL_KEY in seen([call]).busy
    waits = task(b"m", "Trial.train", TaskStatus.RUNNING, TaskStatus.RUNNING_IN_RAY_GET, actor=TRIAL, kind=2)
    assert TRIAL_KEY not in seen([waits]).busy


def test_task_that_waits_in_ray_get_lends_its_cpus():
    waits = task(b"c", "part", TaskStatus.RUNNING, TaskStatus.RUNNING_IN_RAY_GET)
    assert [each.lends for each in seen([waits]).holders] == [False, True]
