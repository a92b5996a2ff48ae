"""What a log line, a record and a page say of a value."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow_ray.cluster.values.kinds import MATERIALIZED_DATASET, RAY_MATRIX, kinds_of


def describe_value(value: Any) -> dict[str, Any]:
    """Return the type of ``value`` and its ``shape`` or ``length`` where it has one, as plain data."""
    description: dict[str, Any] = {"type": type_name(value)}
    # Anything may happen inside a user's class; a log line is not worth a failed task.
    with suppress(Exception):
        shape = _shape_of(value)
        if isinstance(shape, tuple):
            description["shape"] = [int(size) for size in shape]
        elif hasattr(value, "__len__"):
            description["length"] = len(value)
    return description


def _shape_of(value: Any) -> Any:
    """Return the shape of a table or array, as far as it is known without computing anything."""
    kinds = set(kinds_of(value))
    if MATERIALIZED_DATASET in kinds:
        return value.count(), len(value.columns())
    if RAY_MATRIX in kinds:
        return getattr(value.loader.data, "shape", None) or (value.n,)
    return getattr(value, "shape", None)


def type_name(value: Any) -> str:
    """Return the name of the class of ``value``, with its module unless built in."""
    cls = type(value)
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
