"""``ray.init()`` and ``ray.shutdown()`` of a notebook, in a process that Ray has connected already.

The first one fails there, and the second one ends the process under its task, which Ray then runs again.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What is so in any case.
_HONOURED = frozenset({"ignore_reinit_error"})
_THIS_CLUSTER = (None, "auto")


def let_notebooks_call_init() -> None:
    """Let both say one line and change nothing, from now on in this process.

    A module that is imported during one work keeps these functions for the next one, so they stay.
    """
    import ray

    # The module, which ``ray`` hides behind a name of its own.
    module: Any = sys.modules["ray._private.worker"]
    if not hasattr(module.init, "changes_nothing"):
        module.init = ray.init = _init_that_changes_nothing(module.init)
        module.shutdown = ray.shutdown = _shutdown_that_changes_nothing(module.shutdown)


def _init_that_changes_nothing(original: Callable[..., Any]) -> Any:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        from ray._private.worker import RayContext

        given = signature.bind(*args, **kwargs).arguments
        _say("ray.init() changes nothing in a Ray task, which is connected to its cluster already", _ignored(given))
        return RayContext(_address_of_this_cluster())

    init.changes_nothing = True  # type: ignore[attr-defined]
    return init


def _shutdown_that_changes_nothing(original: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def shutdown(*args: Any, **kwargs: Any) -> Any:
        # Ray's own call, at the end of the process.
        if kwargs.get("_exiting_interpreter"):
            return original(*args, **kwargs)
        _say("ray.shutdown() changes nothing in a Ray task, whose process leaves the cluster when Ray ends it", [])
        return None

    return shutdown


def _ignored(arguments: dict[str, Any]) -> list[str]:
    """Return the names of arguments that have no effect; their values may be secrets."""
    given = {**arguments, **arguments.get("kwargs", {})}
    if given.get("address") in _THIS_CLUSTER:
        given.pop("address", None)
    return [name for name, value in given.items() if value is not None and name not in {"kwargs", *_HONOURED}]


def _say(what: str, ignored: list[str]) -> None:
    effect = f". Without effect: {', '.join(ignored)}; set what the task needs in its operator" if ignored else ""
    print(f"{what}{effect}.", file=sys.stderr)


def _address_of_this_cluster() -> dict[str, Any]:
    """Return what Ray tells of where it is connected to, as far as a process of a task knows that."""
    import ray

    context = ray.get_runtime_context()
    return {"gcs_address": context.gcs_address, "address": context.gcs_address, "node_id": context.get_node_id()}
