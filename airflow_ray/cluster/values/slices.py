"""Slices, of which what they show is kept, and not all that they were cut from.

An Arrow array that is a part of another one names the buffers of the whole, and is pickled with them; so is a batch, a
column with several arrays, and text inside a struct or a list of polars.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import in_use
from airflow_ray.cluster.values.modin_frames import keep_modin_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What is smaller is not worth a look.
MIN_BYTES = 64 * 1024
# To copy what an array shows is worth it if that is less than so much of what it holds.
WORTHWHILE = 0.9


@contextmanager
def as_shown() -> Iterator[None]:
    """Let cloudpickle take of each value what it shows: of a slice its part, of a Modin frame its partitions."""
    with cut_slices(), keep_modin_frames():
        yield


@contextmanager
def cut_slices() -> Iterator[None]:
    """Let cloudpickle take of a slice its part, by one thread at a time."""
    with ExitStack() as stack:
        for cloudpickle in in_use():
            stack.enter_context(_cutting(cloudpickle.CloudPickler.dispatch))
        yield


@contextmanager
def _cutting(dispatch: Any) -> Iterator[None]:
    pa = sys.modules.get("pyarrow")
    reducers = reducers_of_slices(dispatch.get(getattr(pa, "Table", None)))
    before = {kind: dispatch[kind] for kind in reducers if kind in dispatch}
    dispatch.update(reducers)
    try:
        yield
    finally:
        for kind in reducers:
            dispatch.pop(kind, None)
        dispatch.update(before)


def reducers_of_slices(cut_by_ray: Callable[[Any], Any] | None) -> dict[type, Callable[[Any], Any]]:
    """Return for each kind, as far as this process has any, what takes a slice to pieces for a pickler.

    :param cut_by_ray: what Ray does to a table, for those who have Ray; None where it does nothing.
    """
    return {**_arrow_reducers(cut_by_ray), **_polars_reducers()}


def compacted(array: Any) -> Any:
    """Return an equal Arrow array that holds little more than it shows: ``array`` itself where that is so already."""
    import pyarrow as pa

    held = array.get_total_buffer_size()
    views = holds_views(array.type)
    # Of views pyarrow counts all that they look at.
    if held < MIN_BYTES or (not views and array.nbytes > WORTHWHILE * held):
        return array
    try:
        copied = _copied(array)
        if copied.get_total_buffer_size() > WORTHWHILE * held:
            return array
        return copied.cast(array.type) if copied.type != array.type else copied
    # What a release of pyarrow cannot do with a type of its own; the array is right as it is.
    except (pa.ArrowException, NotImplementedError):
        return array


def holds_views(kind: Any) -> bool:
    """Return whether an Arrow type has parts that look at buffers from anywhere, which not even Arrow's files cut."""
    import pyarrow as pa

    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    if is_view or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return holds_views(kind.storage_type)
    return any(holds_views(kind.field(number).type) for number in range(kind.num_fields))


def _copied(array: Any) -> Any:
    """Return a copy, with text in place of views of text."""
    import numpy as np
    import pyarrow as pa

    kind = _without_views(array.type)
    if kind != array.type:
        array = array.cast(kind)
    if pa.types.is_union(kind):
        return array.take(pa.array(np.arange(len(array))))
    # One array alone is returned as it is.
    return pa.concat_arrays([array, array.slice(0, 0)])


def _without_views(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        of = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return of(kind.value_field.with_type(_without_views(kind.value_type)))
    return kind


def _arrow_reducers(cut_by_ray: Callable[[Any], Any] | None) -> dict[type, Callable[[Any], Any]]:
    pa = sys.modules.get("pyarrow")
    # Ray imports some modules of it alone.
    if pa is None or not hasattr(pa, "Array"):
        return {}

    def reduce_table(table: Any) -> Any:
        if cut_by_ray is None or any(holds_views(field.type) for field in table.schema):
            return table.__reduce__()
        return cut_by_ray(table)

    arrays = dict.fromkeys(_kinds_of(pa.Array), lambda array: compacted(array).__reduce__())
    return {**arrays, pa.Table: reduce_table}


def _kinds_of(cls: Any) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _kinds_of(each)


def _polars_reducers() -> dict[type, Callable[[Any], Any]]:
    pl = sys.modules.get("polars")
    if pl is None or not hasattr(pl, "Series"):
        return {}

    def reduce_series(series: Any) -> Any:
        frame = _arrow_of(series.to_frame()) if series.dtype.is_nested() else None
        return series.__reduce_ex__(5) if frame is None else (pl.Series, (series.name, frame.column(0)))

    def reduce_frame(frame: Any) -> Any:
        table = _arrow_of(frame) if any(dtype.is_nested() for dtype in frame.dtypes) else None
        return frame.__reduce_ex__(5) if table is None else (pl.from_arrow, (table,))

    return {pl.Series: reduce_series, pl.DataFrame: reduce_frame}


def _arrow_of(frame: Any) -> Any:
    """Return a frame of polars as an Arrow table, of text as it is shown; None where it would not come back equal."""
    import polars as pl

    try:
        table = frame.to_arrow()
        return table if pl.from_arrow(table.slice(0, 0)).schema == frame.schema else None
    # What Arrow does not have, such as Python objects, or a process without pyarrow.
    except (pl.exceptions.PolarsError, TypeError, ValueError, ImportError):
        return None
