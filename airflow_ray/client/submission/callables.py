"""Which callables can run on a cluster, said when a DAG is parsed and not after its inputs were made."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from airflow_ray.exceptions import RayConfigurationError

# Where Ray defines what it calls a function, a class or a method by ``.remote()`` only.
_OF_RAY = frozenset({"ray.remote_function", "ray.actor"})


def check_callable(function: Any, name: str = "python_callable") -> None:
    """Refuse what cannot be called on a cluster, or returns what no task can hand over.

    :param name: what the user calls it.
    :raises RayConfigurationError: it is no callable, a generator function, a task of Airflow or a remote function of
        Ray.
    """
    if not callable(function):
        raise RayConfigurationError(f"{name} must be callable, got {function!r}")
    if reason := _refusal(_plain(function)):
        called = getattr(function, "__qualname__", None) or repr(function)
        raise RayConfigurationError(f"{name} {called} {reason}")


def _plain(function: Any) -> Any:
    """Return what is called in the end, through partials, methods and objects that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, staticmethod):
        return function.__func__
    if inspect.isroutine(function) or inspect.isclass(function) or _refusal(function):
        return function
    method = getattr(type(function), "__call__")  # noqa: B004, B009 - whether it can be called is known
    return method if inspect.isfunction(method) else function


def _refusal(function: Any) -> str | None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return (
            "is a generator function: what it yields comes one by one, and a task returns one value. Collect it, and "
            "return a list for example."
        )
    if getattr(function, "_airflow_is_task_decorator", False):
        return "is a task of Airflow. Name the plain function, which a decorated one has as .function"
    if any(base.__module__ in _OF_RAY for base in type(function).__mro__):
        return (
            "belongs to Ray, which calls it by .remote() only. Name the plain function without @ray.remote, and give "
            "its num_cpus, resources and so on to the operator."
        )
    return None
