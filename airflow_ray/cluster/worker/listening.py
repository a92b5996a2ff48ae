"""What functions of Ray's make while somebody listens."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def listen(name: str, tell: Callable[..., None], *holders: Any) -> Iterator[None]:
    """Call ``tell`` with each thing that a function of this process makes meanwhile, and with its arguments.

    :param name: of the function.
    :param holders: modules or classes that have it. It is replaced in them once: a module that is imported during one
        work keeps it for the next one.
    """
    listening: Any = getattr(holders[0], name)
    if not hasattr(listening, "listener"):
        listening = _with_listener(listening)
        for holder in holders:
            setattr(holder, name, listening)
    listening.listener = tell
    try:
        yield
    finally:
        listening.listener = None


def _with_listener(make: Callable[..., Any]) -> Any:
    @functools.wraps(make)
    def listening(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        # Another thread may end the listening meanwhile.
        tell = listening.listener  # type: ignore[attr-defined]
        if tell is not None:
            tell(made, *args, **kwargs)
        return made

    listening.listener = None  # type: ignore[attr-defined]
    return listening
