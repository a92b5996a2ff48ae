"""The columns of a table by their names and types."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.kinds import (
    ARROW_TABLE,
    MATERIALIZED_DATASET,
    MODIN_FRAMES,
    PANDAS_FRAMES,
    POLARS_FRAME,
    kinds_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_ray.cluster.values.kinds import Kind

# A name or a type may be a text of any length, such as that of a struct with hundreds of fields.
MAX_CHARACTERS = 80


def columns_of(value: Any, limit: int) -> list[tuple[str, str]]:
    """Return name and type of the first columns of a table, as far as they are known without computing anything.

    :param limit: how many columns at most.
    :returns: an empty list for what is no table.
    """
    columns = next((_BY_KIND[kind] for kind in kinds_of(value) if kind in _BY_KIND), None)
    if columns is None:
        return []
    return [(shortened(name), shortened(dtype)) for name, dtype in itertools.islice(columns(value), limit)]


def shortened(value: Any) -> str:
    """Return a name or a type as a text, without the end of a long one."""
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def _pandas(frame: Any) -> Iterable[tuple[Any, Any]]:
    return zip(frame.columns, frame.dtypes, strict=True) if hasattr(frame, "columns") else [(frame.name, frame.dtype)]


def _modin(frame: Any) -> Iterable[tuple[Any, Any]]:
    # Its types may not be known before it is computed.
    return ((name, "") for name in (frame.columns if hasattr(frame, "columns") else [frame.name]))


def _polars(frame: Any) -> Iterable[tuple[Any, Any]]:
    return zip(frame.columns, frame.dtypes, strict=True)


def _arrow(table: Any) -> Iterable[tuple[Any, Any]]:
    return ((field.name, field.type) for field in table.schema)


def _dataset(dataset: Any) -> Iterable[tuple[Any, Any]]:
    schema = dataset.schema()
    return zip(schema.names, schema.types, strict=True)


_BY_KIND: dict[Kind, Callable[[Any], Iterable[tuple[Any, Any]]]] = {
    **dict.fromkeys(PANDAS_FRAMES, _pandas),
    **dict.fromkeys(MODIN_FRAMES, _modin),
    POLARS_FRAME: _polars,
    ("polars", "Series"): lambda series: [(series.name, series.dtype)],
    ARROW_TABLE: _arrow,
    ("pyarrow", "RecordBatch"): _arrow,
    MATERIALIZED_DATASET: _dataset,
}
