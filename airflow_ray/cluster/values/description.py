"""What a log line, a record and a page say of a value."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow_ray.cluster.values.columns import columns_of
from airflow_ray.cluster.values.kinds import MATERIALIZED_DATASET, RAY_MATRIX, kinds_of

# Of the first columns of a table each record and each XCom tells the names.
MAX_COLUMNS = 30


def describe_value(value: Any) -> dict[str, Any]:
    """Return as plain data the type of ``value``, its ``shape`` or ``length``, and of a table its first ``columns``.

    Each column is told by its name and type.
    """
    description: dict[str, Any] = {"type": type_name(value)}
    # Anything may happen inside a user's class; a log line is not worth a failed task.
    with suppress(Exception):
        shape = _shape_of(value)
        if isinstance(shape, tuple):
            description["shape"] = [int(size) for size in shape]
        elif hasattr(value, "__len__"):
            description["length"] = len(value)
    with suppress(Exception):
        if columns := columns_of(value, MAX_COLUMNS):
            description["columns"] = columns
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
