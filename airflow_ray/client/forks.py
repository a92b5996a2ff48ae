"""Locks of this process, and children of a fork, which may find them held by threads that they do not have."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class cached_property(functools.cached_property[T]):
    """A property that keeps what it returned first.

    That of Python 3.10 and 3.11 holds a lock for all objects of its class while it computes, such as while a connection
    is looked up, and a child of a fork would wait for it without end.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | T:
        if instance is None:
            return self
        # Two threads may both compute it; both get the one that was there first.
        value: T = vars(instance).setdefault(str(self.attrname), self.func(instance))
        return value


def free_in_children(lock: T) -> T:
    """Return a lock that a child of a fork finds free, whoever held it.

    :param lock: one of :mod:`threading`, of a whole module.
    """
    reset: Any = lock
    os.register_at_fork(after_in_child=reset._at_fork_reinit)
    return lock
