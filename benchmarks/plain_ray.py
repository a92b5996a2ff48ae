"""Ray itself, in the connection that a hook has open: what this package is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.ray_session import RaySession
    from airflow_ray.hooks.ray import RayHook

T = TypeVar("T")


def run_by_ray(hook: RayHook, function: Callable[[], T]) -> T:
    """Return what ``function`` returns, which uses ``ray``."""
    return cast("RaySession", hook.client.link.session).run(function)
