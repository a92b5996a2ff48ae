"""The calls that an owner answers, by which it knows whether anybody has use for it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
# In which whoever was told that the owner is to end has ended it.
END_SECONDS = 10.0
# Nobody who calls one of these needs the owner for something: a detached actor may tell of itself for ever, and a page
# may stay open.
_NOT_COUNTED = frozenset(
    {"append_child_log", "begin", "greet", "note_child_used", "note_children", "retire", "until_end"}
)


class Calls:
    """Those that are under way, and when the last one ended."""

    def __init__(self) -> None:
        self._under_way = 0
        self._are_over = False
        self._ended_at = time.monotonic()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a call for as long as it lasts."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._ended_at = time.monotonic()

    def end(self) -> None:
        """Answer no further one: what it brings would be lost with the owner, which is about to be ended."""
        self._are_over = True

    async def admit(self) -> None:
        """Return at once, or never: whoever has called then learns of the end of the owner, and asks the next one."""
        if self._are_over:
            await asyncio.sleep(END_SECONDS)
            # Whoever was to end it is gone itself.
            os._exit(0)

    def seconds_without(self) -> float:
        """Return for how long there has been none."""
        return 0.0 if self._under_way else time.monotonic() - self._ended_at


def counted(cls: type[T]) -> type[T]:
    """Let the public methods of a class count their calls in its attribute ``calls``."""
    for name, method in list(vars(cls).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_") and name not in _NOT_COUNTED:
            setattr(cls, name, _counted(method))
    return cls


def uncounted(owner: Any, name: str) -> Callable[..., Any]:
    """Return a method of who counts calls, for one that is not to count."""
    method = getattr(type(owner), name)
    return functools.partial(getattr(method, "does", method), owner)


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        await self.calls.admit()
        with self.calls.one():
            return await method(self, *args, **kwargs)

    call.does = method  # type: ignore[attr-defined]
    return call
