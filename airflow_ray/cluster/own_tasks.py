"""Tasks that this package itself has Ray run, beside the callables of users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIX = "airflow-ray:"


def own_task(function: Callable[..., Any], **options: Any) -> Any:
    """Return a remote function under a name by which a worker, and whoever looks at the dashboard, knows whose it is.

    :param options: as ``ray.remote`` takes them.
    """
    import ray

    return ray.remote(name=f"{_PREFIX}{function.__name__.strip('_')}", **options)(function)


def is_own_task(name: str) -> bool:
    """Whether a task of that name is one of these, and none that a callable has started."""
    return name.startswith(_PREFIX)
