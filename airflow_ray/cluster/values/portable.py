"""What cloudpickle cannot copy: it holds a lock, a weak reference, or says only by what name it is to be found.

Each arrives as a kind of its own that any process can pickle again, also one that has nothing of this package, such as
the one that serves a Ray Client.
"""

from __future__ import annotations

import functools
import types
import typing
import weakref
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


class _CachedProperty(functools.cached_property):  # type: ignore[type-arg]  # it would have to travel too
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.func,), {"attrname": self.attrname}


class _LruCache:
    """A function with a cache, which is empty where it arrives; the class of :mod:`functools` cannot be built upon.

    :param function: what is cached.
    :param parameters: those of :func:`functools.lru_cache`.
    """

    def __init__(self, function: Callable[..., Any], parameters: dict[str, Any]) -> None:
        self._cached = functools.lru_cache(**parameters)(function)
        self.cache_info = self._cached.cache_info
        self.cache_clear = self._cached.cache_clear
        self.cache_parameters = self._cached.cache_parameters
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._cached(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cached.__wrapped__, self.cache_parameters())


class _WeakKeyDictionary(weakref.WeakKeyDictionary):  # type: ignore[type-arg]  # as above
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class _NewType(typing.NewType):
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__name__, self.__supertype__), {"__module__": self.__module__}


def parts_of(cloudpickle: ModuleType) -> dict[type, Callable[[Any], Any]]:
    """Return for each kind what takes one to pieces for a cloudpickle."""

    def lru_cache_parts(value: Any) -> Any:
        if _is_found(value, cloudpickle):
            return value.__qualname__
        return _LruCache, (value.__wrapped__, value.cache_parameters())

    def new_type_parts(value: Any) -> Any:
        if _is_found(value, cloudpickle):
            return value.__qualname__
        return _NewType, (value.__qualname__, value.__supertype__), {"__module__": value.__module__}

    return {
        functools.cached_property: lambda value: (_CachedProperty, (value.func,), {"attrname": value.attrname}),
        functools._lru_cache_wrapper: lru_cache_parts,
        weakref.WeakKeyDictionary: lambda value: (_WeakKeyDictionary, (dict(value),)),
        typing.NewType: new_type_parts,
    }


def make_portable() -> None:
    """Let cloudpickle copy them in this process from now on."""
    for cloudpickle in in_use():
        cloudpickle.CloudPickler.dispatch.update(parts_of(cloudpickle))


@contextmanager
def portable(more: dict[type, Callable[[Any], Any]]) -> Iterator[None]:
    """Let cloudpickle copy them while this is entered, by one thread at a time.

    :param more: for each further kind, what takes one to pieces.
    """
    with ExitStack() as stack:
        for cloudpickle in in_use():
            dispatch = cloudpickle.CloudPickler.dispatch
            parts = {**parts_of(cloudpickle), **more}
            added = {kind: take for kind, take in parts.items() if kind not in dispatch}
            dispatch.update(added)
            for kind in added:
                stack.callback(dispatch.pop, kind, None)
        yield


def _is_found(value: Any, cloudpickle: ModuleType) -> bool:
    """Return whether ``value`` is of a module that other processes can import."""
    found = cloudpickle._lookup_module_and_qualname(value)
    return found is not None and not cloudpickle._is_registered_pickle_by_value(found[0])
