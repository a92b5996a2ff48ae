"""Why a call cannot be pickled, in the words of its author."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow_ray.client.submission.modules import unwrap
from airflow_ray.cluster.values.cloudpickles import of_airflow
from airflow_ray.cluster.values.pickler import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def explanation(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], error: Exception) -> str:
    """Return which part of a call cannot be pickled, and why."""
    arguments = [(f"op_args[{i}]", arg) for i, arg in enumerate(args)]
    arguments += [(f"op_kwargs[{name!r}]", arg) for name, arg in kwargs.items()]
    for name, argument in arguments:
        if reason := _reason_not_picklable(argument):
            return (
                f"Argument {name} of type {type(argument).__name__} cannot be pickled, so it cannot be sent to "
                f"the Ray cluster: {reason}. Pass plain data and create such objects inside the callable."
            )
    name = getattr(function, "__qualname__", repr(function))
    culprits = [
        f"{name!r} ({type(value).__name__})" for name, value in _referenced(function) if _reason_not_picklable(value)
    ]
    refers = f" It refers to {', '.join(culprits)}, which cannot be pickled." if culprits else ""
    return (
        f"The callable {name} cannot be pickled, so it cannot be sent to the Ray cluster: {error}.{refers} "
        "Create locks, sockets, connections and generators inside the callable."
    )


def _referenced(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    plain = unwrap(function)
    if not inspect.isfunction(plain):
        return []
    variables = inspect.getclosurevars(plain)
    return [*variables.nonlocals.items(), *variables.globals.items()]


def _reason_not_picklable(value: Any) -> str | None:
    try:
        dumps(value, of_airflow())
    except Exception as error:
        return str(error)
    return None
