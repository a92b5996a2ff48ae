"""The first rows of a value as text, made where the value lies."""

from __future__ import annotations

import itertools
import reprlib
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.kinds import (
    ARRAY,
    ARROW_TABLE,
    DATASET,
    MODIN_FRAMES,
    PANDAS_FRAMES,
    POLARS_FRAME,
    kinds_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.values.kinds import Kind


MAX_COLUMNS = 20
MAX_CHARACTERS = 2000


def preview(value: Any, rows: int, width: int) -> str:
    """Return the first rows of a table or array, or a shortened ``repr`` of anything else.

    :param rows: how many rows; of another collection, how many items.
    :param width: how many characters a line of a table may have.
    """
    if (show := _shower(value)) is not None:
        return show(value, rows, width)
    if isinstance(value, (tuple, list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        first = list(itertools.islice(items, rows))
        if any(_shower(item) for _, item in first):
            return "\n".join(f"[{key!r}]\n{preview(item, rows, width)}" for key, item in first)
    return _shortened(value, rows)


def _shower(value: Any) -> Callable[[Any, int, int], str] | None:
    return next((_BY_KIND[kind] for kind in kinds_of(value) if kind in _BY_KIND), None)


def _pandas(frame: Any, rows: int, width: int) -> str:
    import pandas

    options = {"width": width, "max_columns": MAX_COLUMNS, "max_rows": rows, "show_dimensions": False}
    with pandas.option_context(*(part for name, value in options.items() for part in (f"display.{name}", value))):
        return repr(frame.head(rows))


def _modin(frame: Any, rows: int, width: int) -> str:
    return _pandas(frame.head(rows)._to_pandas(), rows, width)


def _polars(frame: Any, rows: int, width: int) -> str:
    import polars

    head = frame.head(rows)
    with polars.Config(tbl_rows=rows, tbl_cols=MAX_COLUMNS, tbl_width_chars=width, tbl_hide_dataframe_shape=True):
        return str(head.collect() if hasattr(head, "collect") else head)


def _arrow(table: Any, rows: int, width: int) -> str:
    head = table.slice(0, rows)
    try:
        return _table(head.to_pylist(), table.schema.names, rows, width)
    except ImportError:
        return str(head)


def _dataset(dataset: Any, rows: int, width: int) -> str:
    return _table(dataset.take(rows), dataset.columns(), rows, width)


def _table(items: list[dict[str, Any]], names: list[str], rows: int, width: int) -> str:
    import pandas

    return _pandas(pandas.DataFrame(items, columns=names, dtype=object), rows, width)


def _numpy(array: Any, rows: int, width: int) -> str:
    import numpy

    with numpy.printoptions(linewidth=width):
        return repr(array[:rows] if array.ndim else array)


def _shortened(value: Any, items: int) -> str:
    shortener = reprlib.Repr()
    for name in ("maxdict", "maxlist", "maxtuple", "maxset", "maxfrozenset", "maxdeque", "maxarray"):
        setattr(shortener, name, items)
    shortener.maxstring = shortener.maxlong = shortener.maxother = MAX_CHARACTERS
    return shortener.repr(value)


_BY_KIND: dict[Kind, Callable[[Any, int, int], str]] = {
    **dict.fromkeys(PANDAS_FRAMES, _pandas),
    **dict.fromkeys(MODIN_FRAMES, _modin),
    POLARS_FRAME: _polars,
    ("polars", "LazyFrame"): _polars,
    ("polars", "Series"): _polars,
    ARROW_TABLE: _arrow,
    ("pyarrow", "RecordBatch"): _arrow,
    DATASET: _dataset,
    ARRAY: _numpy,
}
