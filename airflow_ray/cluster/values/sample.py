"""The first rows of a value as plain data, for a page: made where the value lies."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.columns import columns_of, shortened
from airflow_ray.cluster.values.description import describe_value
from airflow_ray.cluster.values.kinds import (
    ARROW_TABLE,
    DATASET,
    MODIN_FRAMES,
    PANDAS_FRAMES,
    POLARS_FRAME,
    kinds_of,
)
from airflow_ray.cluster.values.preview import preview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_ray.cluster.values.kinds import Kind

    # The names of the columns, the first of which is that of the index, and the cells of each row.
    Rows = tuple[list[Any], Iterable[Iterable[Any]]]

# What a page can show, and a person read.
MAX_COLUMNS = 50
MAX_SCHEMA = 500
MAX_CELL = 120
MAX_TEXT = 20_000
TEXT_WIDTH = 120
INDEX = ""


def sample(value: Any, rows: int) -> dict[str, Any]:
    """Return what :func:`describe_value` does, with more ``columns``, and the first rows.

    :param rows: how many; of what is no table, how many items.
    :returns: ``head`` has the names of the columns that ``rows`` has, each row as a list of texts; of what is no table
        there is a ``text`` instead.
    """
    described = {**describe_value(value), "columns": columns_of(value, MAX_SCHEMA)}
    first = next((_BY_KIND[kind] for kind in kinds_of(value) if kind in _BY_KIND), None)
    if first is None:
        return {**described, "text": preview(value, rows, TEXT_WIDTH)[:MAX_TEXT]}
    head, cells = first(value, rows)
    return {**described, "head": [shortened(name) for name in head], "rows": [[*map(_cell, row)] for row in cells]}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        # The owner hands it on, and has no class of the user's.
        text = str.__str__(value)
        return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)[:MAX_CELL]
    if isinstance(value, (list, tuple, dict, set, frozenset, bytes)):
        return reprlib.repr(value)[:MAX_CELL]
    return str(value)[:MAX_CELL]


def _pandas(frame: Any, rows: int) -> Rows:
    frame = frame if hasattr(frame, "columns") else frame.to_frame()
    head = frame.iloc[:rows, :MAX_COLUMNS]
    return [INDEX, *head.columns], head.itertuples(index=True, name=None)


def _modin(frame: Any, rows: int) -> Rows:
    return _pandas(frame.head(rows)._to_pandas(), rows)


def _polars(frame: Any, rows: int) -> Rows:
    head = frame.head(rows)
    head = head.collect() if hasattr(head, "collect") else head
    head = head if hasattr(head, "columns") else head.to_frame()
    names = head.columns[:MAX_COLUMNS]
    return _numbered(names, head.select(names).rows())


def _arrow(table: Any, rows: int) -> Rows:
    head = table.slice(0, rows)
    columns = [column.to_pylist() for column in head.columns[:MAX_COLUMNS]]
    return _numbered(table.schema.names[:MAX_COLUMNS], zip(*columns, strict=True))


def _dataset(dataset: Any, rows: int) -> Rows:
    names = dataset.columns()[:MAX_COLUMNS]
    return _numbered(names, ([row.get(name) for name in names] for row in dataset.take(rows)))


def _numbered(names: list[Any], rows: Iterable[Iterable[Any]]) -> Rows:
    """Add the number of each row, as pandas has an index."""
    return [INDEX, *names], ([number, *row] for number, row in enumerate(rows))


_BY_KIND: dict[Kind, Callable[[Any, int], Rows]] = {
    **dict.fromkeys(PANDAS_FRAMES, _pandas),
    **dict.fromkeys(MODIN_FRAMES, _modin),
    POLARS_FRAME: _polars,
    ("polars", "LazyFrame"): _polars,
    ("polars", "Series"): _polars,
    ARROW_TABLE: _arrow,
    ("pyarrow", "RecordBatch"): _arrow,
    DATASET: _dataset,
}
