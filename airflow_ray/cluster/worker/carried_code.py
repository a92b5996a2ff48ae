"""Brings this package's code to the processes in which the tasks and actors of a callable run, with their own code.

A hook for all processes of the job would change the runtime environment of each task: Ray would then use none of the
processes that it keeps ready.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.worker.child_output import ChildOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of Ray's object for this process, which all code in it shares: what is shipped by value has no module to share.
_PLACE = "airflow_ray_child_output"
_KEYS = b"airflow_ray"


def child_output(owner_name: str) -> ChildOutput:
    """Return what sends on the output of this process from now on, and lets what it starts do the same."""
    import ray

    worker: Any = ray._private.worker.global_worker
    found: ChildOutput | None = getattr(worker, _PLACE, None)
    if found is None:
        found = ChildOutput(owner_name)
        setattr(worker, _PLACE, found)
        _carry_on(owner_name)
        _note_what_is_started(found)
        _send_before_values_leave(found)
        found.watch_streams()
        found.start()
    return found


@contextmanager
def output_of_children(owner_name: str) -> Iterator[None]:
    """Let what is started by the callable that is run meanwhile send its output on."""
    with ExitStack() as stack:
        # All this hangs on names of Ray's own: without them there are no lines of children, and the work runs as ever.
        with suppress(Exception):
            stack.enter_context(child_output(owner_name).as_runner())
        yield


class _Carried:
    """The pickle of a function or class, which knows where the code is that sends the output of its process on."""

    def __init__(self, pickled: bytes, key: bytes) -> None:
        self._pickled = pickled
        self._key = key

    def __reduce__(self) -> Any:
        return _arrived, (self._pickled, self._key)


def _arrived(pickled: bytes, key: bytes) -> Any:
    import ray
    from ray import cloudpickle

    worker: Any = ray._private.worker.global_worker
    # Where it fails, there are no lines of this process in the log of the work; its tasks run as ever.
    with suppress(Exception):
        # A driver may get such a class too, with a value that it reads: what it writes is none of the work's.
        if worker.mode == ray.WORKER_MODE and not hasattr(worker, _PLACE):
            cloudpickle.loads(worker.gcs_client.internal_kv_get(key, _KEYS))()
    return cloudpickle.loads(pickled)


def _carry_on(owner_name: str) -> None:
    """Let each function and class that this process exports to others carry the code along."""
    import ray.remote_function
    from ray import cloudpickle
    from ray._private import function_manager

    # Once for all: it is larger than most functions.
    installer = cloudpickle.dumps(functools.partial(child_output, owner_name))
    key = owner_name.encode()
    ray._private.worker.global_worker.gcs_client.internal_kv_put(key, installer, False, _KEYS)

    def carrying(pickle_dumps: Callable[..., bytes]) -> Callable[..., bytes]:
        def dumps(obj: Any, *args: Any, **kwargs: Any) -> bytes:
            pickled: bytes = cloudpickle.dumps(_Carried(pickle_dumps(obj, *args, **kwargs), key))
            return pickled

        return dumps

    for module in (ray.remote_function, function_manager):
        module.pickle_dumps = carrying(module.pickle_dumps)


def _note_what_is_started(output: ChildOutput) -> None:
    from ray.actor import ActorClass
    from ray.remote_function import RemoteFunction

    # Without the attributes of what it stands for: others listen there too, and tell by these that they do already.
    as_is = functools.partial(functools.wraps, updated=())
    start_task, start_actor = RemoteFunction._remote, ActorClass._remote

    @as_is(start_task)
    def task(*args: Any, **kwargs: Any) -> Any:
        started = start_task(*args, **kwargs)
        if (task_id := _task_id(started)) is not None:
            output.note([task_id], [])
        return started

    @as_is(start_actor)
    def actor(*args: Any, **kwargs: Any) -> Any:
        started = start_actor(*args, **kwargs)
        output.note([], [started._actor_id.hex()])
        return started

    RemoteFunction._remote, ActorClass._remote = task, actor


def _task_id(started: Any) -> str | None:
    """Return the id of a task by what its start has returned; None where that tells nothing."""
    ref: Any = started[0] if isinstance(started, list) and started else started
    ref = getattr(ref, "_generator_ref", ref)
    return str(ref.task_id().hex()) if hasattr(ref, "task_id") else None


def _send_before_values_leave(output: ChildOutput) -> None:
    from ray._private.serialization import SerializationContext

    serialize = SerializationContext.serialize

    @functools.wraps(serialize)
    def after_output(*args: Any, **kwargs: Any) -> Any:
        output.before_a_value_leaves()
        return serialize(*args, **kwargs)

    SerializationContext.serialize = after_output
