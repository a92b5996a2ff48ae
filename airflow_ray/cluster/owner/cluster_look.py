"""One look at the cluster: what its nodes have, who waits for resources there, and who holds them."""

from __future__ import annotations

from typing import Any, NamedTuple

# Of actors, placement groups and tasks each; what is beyond is left out.
MAX_ROWS = 2_000
EVENTS_SECONDS = 5.0

ACTOR, GROUP, TASK = "actor", "placement group", "child task"
# What the ids of the tasks that make actors begin with; the rest is the id of the actor.
_ACTOR_TASK = "f" * 16


class Node(NamedTuple):
    """What a node has in all, and what of it is free."""

    node_id: str
    total: dict[str, float]
    free: dict[str, float]


class Waiter(NamedTuple):
    """Who waits for resources.

    :param key: the id of the task, of the task that makes the actor, or of the placement group.
    :param kind: ``ACTOR``, ``GROUP`` or ``TASK``.
    :param name: as its user knows it; a placement group may have none.
    :param asks: what is asked, of one node each.
    :param strategy: how the bundles of a placement group are to lie.
    :param maker: the key of who made it, an empty text where nobody knows.
    """

    key: str
    kind: str
    name: str
    asks: tuple[dict[str, float], ...]
    strategy: str = ""
    maker: str = ""


class Holder(NamedTuple):
    """Who holds resources of a node; what runs in a placement group holds none of its own.

    :param lends: it waits for others, who may have its CPUs meanwhile.
    :param users: the keys of the actors and tasks that use what is held.
    """

    key: str
    kind: str
    name: str
    holds: dict[str, float]
    node_id: str
    maker: str = ""
    lends: bool = False
    users: frozenset[str] = frozenset()


class Look(NamedTuple):
    """What was seen.

    :param makers: of each task and actor by their keys.
    :param busy: the keys of the tasks and actors that compute at the moment, and do not wait for others.
    :param placeless: the keys of the tasks that no process has yet: they wait for inputs, resources or a process.
    :param addable: what the largest node has that the autoscaler may add, or None where it may add none.
    """

    nodes: list[Node]
    waiters: list[Waiter]
    holders: list[Holder]
    makers: dict[str, str]
    busy: frozenset[str]
    placeless: frozenset[str]
    addable: dict[str, float] | None

    def free(self) -> dict[str, float]:
        """Return what is free on all nodes."""
        return summed([node.free for node in self.nodes])


def summed(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the sums of resources by their names."""
    sums: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            sums[name] = sums.get(name, 0) + amount
    return sums


def take_look() -> Look:
    """Return what the control service of the cluster knows: of tasks and actors only where somebody waits."""
    from ray._private.state import state
    from ray._private.worker import global_worker
    from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply

    told = global_worker.gcs_client.get_cluster_resource_state()
    seen = GetClusterResourceStateReply.FromString(told).cluster_resource_state
    # Of its states these are RUNNING and IDLE.
    alive = [each for each in seen.node_states if each.status in (1, 3)]
    nodes = [Node(each.node_id.hex(), dict(each.total_resources), dict(each.available_resources)) for each in alive]
    if not seen.pending_resource_requests and not seen.pending_gang_resource_requests:
        return Look(nodes, [], [], {}, frozenset(), frozenset(), None)
    # What waits for its runtime environment or a process has its resources already.
    wanted = [dict(each.request.resources_bundle) for each in seen.pending_resource_requests]
    return Reading(_unfinished_tasks(), _living_actors(), _groups()).look(
        nodes, wanted, state.get_max_resources_from_cluster_config()
    )


class Reading:
    """Puts together what the tables of tasks, actors and placement groups say of each other."""

    def __init__(self, tasks: list[Any], actors: list[Any], groups: list[Any]) -> None:
        self._tasks = tasks
        self._actors = actors
        self._groups = groups
        self._makers = {each.task_id.hex(): each.task_info.parent_task_id.hex() for each in tasks}
        # Who runs in which process.
        keys = {_worker(each): each.task_id.hex() for each in tasks if _is_plain(each) and _worker(each)}
        keys |= {each.address.worker_id.hex(): _key_of_actor(each) for each in actors if each.address.worker_id}
        self._names = {_key_of_actor(each): each.name or each.class_name.rpartition(".")[2] for each in actors}
        for actor in actors:
            self._makers[_key_of_actor(actor)] = keys.get(actor.owner_address.worker_id.hex(), "")

    def look(self, nodes: list[Node], wanted: list[dict[str, float]], addable: dict[str, float] | None) -> Look:
        """Return all that waits for one of the resources ``wanted``, and all that holds some."""
        from ray.core.generated.common_pb2 import TaskStatus

        waiters = [each for each in self._waiting_tasks() if dict(each.asks[0]) in wanted]
        holders = [*self._running_tasks(), *self._running_actors(), *self._placed_bundles()]
        busy = frozenset(_user(each) for each in self._tasks if _status(each) == TaskStatus.RUNNING)
        without_process = (TaskStatus.PENDING_ARGS_AVAIL, TaskStatus.PENDING_NODE_ASSIGNMENT)
        placeless = frozenset(each.task_id.hex() for each in self._tasks if _status(each) in without_process)
        return Look(nodes, [*waiters, *self._waiting_groups()], holders, self._makers, busy, placeless, addable)

    def _waiting_tasks(self) -> list[Waiter]:
        from ray.core.generated.common_pb2 import TaskStatus

        waiters = []
        for each in self._tasks:
            told = each.task_info
            asks = dict(told.required_resources)
            if asks and _status(each) == TaskStatus.PENDING_NODE_ASSIGNMENT:
                key = each.task_id.hex()
                is_actor = key.startswith(_ACTOR_TASK)
                name = told.name.removesuffix(".__init__") if is_actor else told.name
                kind = ACTOR if is_actor else TASK
                waiters.append(Waiter(key, kind, name, (asks,), maker=told.parent_task_id.hex()))
        return waiters

    def _waiting_groups(self) -> list[Waiter]:
        waiters = []
        for each in self._groups:
            if each.state in (each.PENDING, each.PREPARED, each.RESCHEDULING):
                asks = tuple(dict(bundle.unit_resources) for bundle in each.bundles)
                maker = self._maker_of_group(each)
                name = each.name or (f"of actor {self._names[maker]}" if maker in self._names else "")
                waiters.append(Waiter(_id_of_group(each), GROUP, name, asks, _strategy(each), maker))
        return waiters

    def _running_tasks(self) -> list[Holder]:
        from ray.core.generated.common_pb2 import TaskStatus

        # A task that waits in one of them lends its CPUs to others meanwhile.
        lending = (TaskStatus.RUNNING_IN_RAY_GET, TaskStatus.RUNNING_IN_RAY_WAIT)
        holders = []
        for each in self._tasks:
            told, status = each.task_info, _status(each)
            if _is_plain(each) and status in (TaskStatus.RUNNING, *lending) and not _has_group(told):
                place = each.state_updates.node_id.hex()
                key, maker = each.task_id.hex(), told.parent_task_id.hex()
                lends = status in lending
                holds = dict(told.required_resources)
                holders.append(Holder(key, TASK, told.name, holds, place, maker, lends, frozenset({key})))
        return holders

    def _running_actors(self) -> list[Holder]:
        return [
            Holder(
                _key_of_actor(each),
                ACTOR,
                self._names[_key_of_actor(each)],
                dict(each.required_resources),
                each.address.node_id.hex(),
                self._makers[_key_of_actor(each)],
                users=frozenset({_key_of_actor(each)}),
            )
            for each in self._actors
            if not _has_group(each)
        ]

    def _placed_bundles(self) -> list[Holder]:
        users: dict[str, set[str]] = {}
        for each in self._tasks:
            users.setdefault(_id_of_group(each.task_info), set()).add(_user(each))
        for actor in self._actors:
            users.setdefault(_id_of_group(actor), set()).add(_key_of_actor(actor))
        return [
            Holder(
                _id_of_group(group),
                GROUP,
                group.name or self._told_by_users(users.get(_id_of_group(group), set())),
                dict(bundle.unit_resources),
                bundle.node_id.hex(),
                self._maker_of_group(group),
                users=frozenset(users.get(_id_of_group(group), ())),
            )
            for group in self._groups
            if group.state == group.CREATED
            for bundle in group.bundles
        ]

    def _told_by_users(self, users: set[str]) -> str:
        actors = sorted({self._names[each] for each in users if each in self._names})
        return f"with actor {' and '.join(actors)}" if actors else ""

    def _maker_of_group(self, group: Any) -> str:
        # An actor has made it, or else nobody tells who.
        actor = group.creator_actor_id.hex()
        return f"{_ACTOR_TASK}{actor}" if actor.strip("f") else ""


def _key_of_actor(actor: Any) -> str:
    return f"{_ACTOR_TASK}{actor.actor_id.hex()}"


def _id_of_group(told: Any) -> str:
    return str(told.placement_group_id.hex())


def _user(task: Any) -> str:
    """Return the key of who runs a task: an actor, or the task itself."""
    actor = task.task_info.actor_id.hex().strip("f")
    return f"{_ACTOR_TASK}{task.task_info.actor_id.hex()}" if actor else str(task.task_id.hex())


def _worker(task: Any) -> str:
    return str(task.state_updates.worker_id.hex())


def _is_plain(task: Any) -> bool:
    """Whether it is neither the making of an actor nor a call of one: of its types that is the first."""
    return bool(task.task_info.type == 0)


def _has_group(told: Any) -> bool:
    return bool(_id_of_group(told).strip("f"))


def _status(task: Any) -> int:
    """Return the last state of a task."""
    stamps = task.state_updates.state_ts_ns
    return max(stamps, key=lambda state: (stamps[state], state), default=0)


def _strategy(group: Any) -> str:
    from ray.core.generated.common_pb2 import PlacementStrategy

    return str(PlacementStrategy.Name(group.strategy))


def _living_actors() -> list[Any]:
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import ActorTableData

    found = state._connect_and_get_accessor().get_actor_table(None, "ALIVE")
    return [ActorTableData.FromString(each) for each in found[:MAX_ROWS]]


def _groups() -> list[Any]:
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    found = state._connect_and_get_accessor().get_placement_group_table()
    return [PlacementGroupTableData.FromString(each) for each in found]


def _unfinished_tasks() -> list[Any]:
    """Return what the control service keeps of tasks that have not ended; nothing where the cluster keeps none."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.worker import global_worker
    from ray.core.generated.common_pb2 import TaskStatus
    from ray.core.generated.gcs_service_pb2 import GetTaskEventsRequest
    from ray.core.generated.gcs_service_pb2_grpc import TaskInfoGcsServiceStub

    filters = GetTaskEventsRequest.Filters(exclude_driver=True)
    for state in (TaskStatus.FINISHED, TaskStatus.FAILED):
        # Of its predicates, that is NOT_EQUAL.
        filters.state_filters.add(state=TaskStatus.Name(state), predicate=1)
    channel = init_grpc_channel(global_worker.gcs_client.address)
    try:
        request = GetTaskEventsRequest(limit=MAX_ROWS, filters=filters)
        reply = TaskInfoGcsServiceStub(channel).GetTaskEvents(request, timeout=EVENTS_SECONDS)
    # Of gRPC, whatever it raises. What is known without is told.
    except Exception:
        return []
    finally:
        channel.close()
    return [each for each in reply.events_by_task if each.HasField("task_info")]
