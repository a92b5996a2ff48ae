"""Room for Modin's tasks, which each ask for a CPU, beside actors of the same work that hold all CPUs.

Such actors often wait for parts of a frame, as those of xgboost-ray do: where no CPU is left for the tasks that make
the parts, both would wait for ever. So these tasks ask for none while the work has such actors, and those that have
begun before are awaited before it makes any.
"""

from __future__ import annotations

import functools
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_SECONDS = 1.0
MAX_TASKS = 10_000


class _Room:
    """What one work has made, as far as it matters to Modin's tasks.

    ``tasks`` are the ids of Modin's tasks that may not have ended, ``groups`` those of placement groups with CPUs that
    were not removed, and ``actors`` those of actors with CPUs.
    """

    def __init__(self) -> None:
        self.tasks: set[Any] = set()
        self.groups: set[Any] = set()
        self.actors: set[Any] = set()

    def is_needed(self) -> bool:
        """Whether something that the work has made holds CPUs, or will."""
        from ray._private.worker import global_worker
        from ray.core.generated.gcs_pb2 import ActorTableData

        state_of = global_worker.core_worker.get_local_actor_state
        self.actors = {each for each in self.actors if state_of(each) != ActorTableData.DEAD}
        return bool(self.groups or self.actors)

    def take(self, refs: Any) -> None:
        """Take note of a task of Modin's by what it returns."""
        from ray import ObjectRef

        first = refs[0] if isinstance(refs, list) and refs else refs
        if isinstance(first, ObjectRef):
            self.tasks.add(first.task_id())
        if len(self.tasks) > MAX_TASKS:
            self.tasks = self._unfinished()

    def await_tasks(self) -> None:
        """Return when Modin's tasks that have begun have ended."""
        import ray

        # Only in the main thread does a wait lend the CPUs of the task, which Modin's may need.
        while threading.current_thread() is threading.main_thread() and (unfinished := self._unfinished()):
            self.tasks = unfinished
            # The first of what each returns: that number follows the id of the task.
            refs = [ray.ObjectRef(each.binary() + (1).to_bytes(4, "little")) for each in unfinished]
            ray.wait(refs, num_returns=len(refs), timeout=WAIT_SECONDS, fetch_local=False)

    def _unfinished(self) -> set[Any]:
        from ray._private.worker import global_worker

        if not self.tasks:
            return set()
        core_worker = global_worker.core_worker
        return self.tasks.intersection(core_worker.get_pending_children_task_ids(core_worker.get_current_task_id()))


_rooms: list[_Room] = []


@contextmanager
def leave_room_for_modin() -> Iterator[None]:
    """Let Modin's tasks that this process starts meanwhile have room; to be entered before others listen to Ray."""
    _install()
    _rooms.append(_Room())
    try:
        yield
    finally:
        _rooms.pop()


@functools.cache
def _install() -> None:
    """Have Ray's functions look for a room, from now on in this process: modules keep the ones that they have."""
    import ray.util.placement_group
    from ray.actor import ActorClass
    from ray.remote_function import RemoteFunction

    # Under that name the package has the function, in place of the module.
    groups: Any = sys.modules["ray.util.placement_group"]
    grouping, removing = _grouping(groups.placement_group), _removing(groups.remove_placement_group)
    for holder in (groups, ray.util):
        holder.placement_group, holder.remove_placement_group = grouping, removing
    ActorClass._remote = _making(ActorClass._remote)
    RemoteFunction._remote = _with_room(RemoteFunction._remote)


def _grouping(make: Callable[..., Any]) -> Any:
    @functools.wraps(make)
    def grouping(bundles: list[dict[str, float]], *args: Any, **options: Any) -> Any:
        if not _rooms or not any(bundle.get("CPU") for bundle in bundles):
            return make(bundles, *args, **options)
        _rooms[-1].await_tasks()
        group = make(bundles, *args, **options)
        _rooms[-1].groups.add(group.id)
        return group

    return grouping


def _removing(remove: Callable[..., Any]) -> Any:
    @functools.wraps(remove)
    def removing(group: Any) -> Any:
        for room in _rooms:
            room.groups.discard(group.id)
        return remove(group)

    return removing


def _making(make: Callable[..., Any]) -> Any:
    @functools.wraps(make)
    def making(actor_class: Any, /, *args: Any, **options: Any) -> Any:
        if not _rooms or not {**actor_class._default_options, **options}.get("num_cpus"):
            return make(actor_class, *args, **options)
        _rooms[-1].await_tasks()
        actor = make(actor_class, *args, **options)
        _rooms[-1].actors.add(actor._ray_actor_id)
        return actor

    return making


def _with_room(start: Callable[..., Any]) -> Any:
    @functools.wraps(start)
    def starting(function: Any, /, *args: Any, **options: Any) -> Any:
        if not _rooms or not str(getattr(function._function, "__module__", "")).startswith("modin."):
            return start(function, *args, **options)
        if _rooms[-1].is_needed():
            options["num_cpus"] = 0
        refs = start(function, *args, **options)
        _rooms[-1].take(refs)
        return refs

    return starting
