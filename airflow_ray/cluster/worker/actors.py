"""Actors that a callable has made, which must end with its work.

One that has a name, or whose handle is inside a result, lives on where nobody counts: Ray keeps an actor for a process
that has pickled its handle once more, as that of a value that is taken apart does.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def report_actors(tell: Callable[[bytes], None]) -> Iterator[None]:
    """Call ``tell`` with each actor that this process makes meanwhile, unless it is detached or may be another's.

    What is told is the state of its handle, which keeps no actor alive. Those that further processes make do not show.
    """
    from ray.actor import ActorClass

    if not hasattr(ActorClass._remote, "listener"):
        ActorClass._remote = _with_listener(ActorClass._remote)
    listening: Any = ActorClass._remote
    listening.listener = tell
    try:
        yield
    finally:
        listening.listener = None


def _with_listener(make: Callable[..., Any]) -> Any:
    @functools.wraps(make)
    def _remote(self: Any, *args: Any, **kwargs: Any) -> Any:
        handle = make(self, *args, **kwargs)
        listening: Any = _remote
        options = {**self._default_options, **kwargs}
        is_own = options.get("lifetime") != "detached" and not options.get("get_if_exists")
        if listening.listener is not None and is_own:
            listening.listener(handle._serialization_helper()[0])
        return handle

    _remote.listener = None  # type: ignore[attr-defined]
    return _remote


def end(states: Sequence[bytes]) -> None:
    """End actors by the states of their handles; those that have ended already are left out."""
    import ray
    from ray.actor import ActorHandle

    for state in states:
        # Ray raises one thing or another for an actor of which it knows nothing any more.
        with suppress(Exception):
            ray.kill(ActorHandle._deserialization_helper(state, True))
