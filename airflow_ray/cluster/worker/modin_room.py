"""Room for Modin's tasks, which each ask for a CPU, beside actors of the same work that hold all CPUs.

Such actors often wait for parts of a frame, as those of xgboost-ray do: where no CPU is left for the tasks that make
the parts, both would wait for ever. So these tasks ask for none once the work has such actors, and those that have
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

    ``tasks`` are the ids of Modin's tasks that may not have ended, ``holds_cpus`` is whether actors or placement groups
    with CPUs were made.
    """

    def __init__(self) -> None:
        self.holds_cpus = False
        self.tasks: set[Any] = set()

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
    groups.placement_group = ray.util.placement_group = _before(groups.placement_group, _group_has_cpus)
    ActorClass._remote = _before(ActorClass._remote, _actor_has_cpus)
    RemoteFunction._remote = _with_room(RemoteFunction._remote)


def _before(make: Callable[..., Any], has_cpus: Callable[..., bool]) -> Any:
    @functools.wraps(make)
    def waiting(*args: Any, **kwargs: Any) -> Any:
        if _rooms and has_cpus(*args, **kwargs):
            _rooms[-1].await_tasks()
            _rooms[-1].holds_cpus = True
        return make(*args, **kwargs)

    return waiting


def _group_has_cpus(bundles: list[dict[str, float]], *_: Any, **__: Any) -> bool:
    return any(bundle.get("CPU") for bundle in bundles)


def _actor_has_cpus(actor_class: Any, /, *_: Any, **options: Any) -> bool:
    return bool({**actor_class._default_options, **options}.get("num_cpus"))


def _with_room(start: Callable[..., Any]) -> Any:
    @functools.wraps(start)
    def starting(function: Any, /, *args: Any, **options: Any) -> Any:
        if not _rooms or not str(getattr(function._function, "__module__", "")).startswith("modin."):
            return start(function, *args, **options)
        if _rooms[-1].holds_cpus:
            options["num_cpus"] = 0
        refs = start(function, *args, **options)
        _rooms[-1].take(refs)
        return refs

    return starting
