"""Actors that a callable has made, which must end with its work.

One that has a name, or whose handle is inside a result, lives on where nobody counts: Ray keeps an actor for a process
that has pickled its handle once more, as that of a value that is taken apart does.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.worker.listening import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def report_actors(tell: Callable[[bytes], None]) -> Iterator[None]:
    """Call ``tell`` with each actor that this process makes meanwhile, unless it is detached or may be another's.

    What is told is the state of its handle, which keeps no actor alive. Those that further processes make do not show.
    """
    from ray.actor import ActorClass

    def tell_of_own(handle: Any, actor_class: Any, /, *_: Any, **options: Any) -> None:
        options = {**actor_class._default_options, **options}
        if options.get("lifetime") != "detached" and not options.get("get_if_exists"):
            tell(handle._serialization_helper()[0])

    with listen("_remote", tell_of_own, ActorClass):
        yield


def end(states: Sequence[bytes]) -> None:
    """End actors by the states of their handles; those that have ended already are left out."""
    import ray
    from ray.actor import ActorHandle

    for state in states:
        # Ray raises one thing or another for an actor of which it knows nothing any more.
        with suppress(Exception):
            ray.kill(ActorHandle._deserialization_helper(_without_class(state), True))


def _without_class(state: bytes) -> bytes:
    """Return the state of a handle with which Ray does not load the actor's class, which is the user's code."""
    from ray.core.generated import common_pb2, core_worker_pb2

    handle = core_worker_pb2.ActorHandle.FromString(state)
    # Ray looks for a class only where it is one of Python's.
    handle.actor_language = common_pb2.Language.JAVA
    return bytes(handle.SerializeToString())
