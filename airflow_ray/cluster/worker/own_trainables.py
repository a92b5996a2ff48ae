"""What a work registers with Ray Tune is what its own searches try.

Ray keeps trainables by job and name, and a search looks its own one up for each trial. All work is of the owner's job,
so a search would try what another one, at the same time, calls by the same name. What else Ray keeps there, such as
RLlib's environments, is looked up by other processes too, and is left as it is.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The second one has the functions by their names, if it was imported before the work began.
_MODULES = ("ray.experimental.internal_kv", "ray.tune.registry")
_TRAINABLES = b":trainable_class/"
_registered: dict[bytes, bytes] = {}


@contextmanager
def own_trainables() -> Iterator[None]:
    """Let searches of this process that run meanwhile try what was registered in it meanwhile."""
    _install()
    try:
        yield
    finally:
        _registered.clear()


def _install() -> None:
    for module in map(sys.modules.get, _MODULES):
        holder: Any = module
        # A module that is imported during one work keeps the functions for the next one, so they stay.
        if holder is not None and not hasattr(holder._internal_kv_get, "knows_trainables"):
            holder._internal_kv_put = _noting(holder._internal_kv_put)
            holder._internal_kv_get = _looking(holder._internal_kv_get)
            holder._internal_kv_del = _forgetting(holder._internal_kv_del)


def _noting(put: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(put)
    def noting(key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(key, bytes) and _TRAINABLES in key:
            _registered[key] = value
        return put(key, value, *args, **kwargs)

    return noting


def _looking(get: Callable[..., Any]) -> Any:
    @functools.wraps(get)
    def looking(key: Any, *args: Any, **kwargs: Any) -> Any:
        return _registered[key] if key in _registered else get(key, *args, **kwargs)

    looking.knows_trainables = True  # type: ignore[attr-defined]
    return looking


def _forgetting(delete: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(delete)
    def forgetting(key: Any, *args: Any, **kwargs: Any) -> Any:
        _registered.pop(key, None)
        return delete(key, *args, **kwargs)

    return forgetting
