"""What kind of value something is, by the names of its classes: no package is imported for the question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# The package that a class is of, and its name. Plain, since a class of its own would have to travel with it.
Kind = tuple[str, str]

PANDAS_FRAMES = frozenset({("pandas", "DataFrame"), ("pandas", "Series")})
ARROW_TABLE = ("pyarrow", "Table")
POLARS_FRAME = ("polars", "DataFrame")
ARRAY = ("numpy", "ndarray")
# All that hold their data themselves.
TABLES = PANDAS_FRAMES | {ARROW_TABLE, POLARS_FRAME, ("polars", "Series"), ARRAY}
# Those whose data lies in Ray objects of their own.
MODIN_FRAMES = frozenset({("modin", "DataFrame"), ("modin", "Series")})
DATASET = ("ray", "Dataset")
# One that has been computed, and knows how large it is.
MATERIALIZED_DATASET = ("ray", "MaterializedDataset")
RAY_MATRIX = ("xgboost_ray", "RayDMatrix")


def kind_of(value: Any) -> Kind:
    """Return the very kind that ``value`` is of; one of a class derived from it is of another."""
    return _kind(type(value))


def kinds_of(value: Any) -> Iterator[Kind]:
    """Yield the kinds that ``value`` counts as: its own, and those of its base classes, nearest first."""
    return map(_kind, type(value).__mro__)


def is_table(value: Any) -> bool:
    """Return whether ``value`` is a table or an array of a kind that holds its data itself."""
    return kind_of(value) in TABLES


def _kind(cls: type) -> Kind:
    return cls.__module__.partition(".")[0], cls.__name__
