"""How a value is written to files and read from them: one class for each way."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ray.cluster.checkpoints.exactness import NotExactError
from airflow_ray.cluster.checkpoints.pandas_arrow import read_pandas, write_pandas
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values import (
    ARRAY,
    ARROW_TABLE,
    PANDAS_FRAMES,
    POLARS_FRAME,
    as_shown,
    compacted,
    holds_views,
    kind_of,
    pickler_without_objects,
    unpickle_around,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

BATCH_BYTES = 4 * 1024 * 1024
READ_BYTES = 1024 * 1024


class Streams(Protocol):
    """The files of one value, by name."""

    def create(self, name: str) -> AbstractContextManager[Any]:
        """Return a file to write."""

    def open(self, name: str) -> AbstractContextManager[Any]:
        """Return a file to read."""

    def create_objects(self, refs: list[Any]) -> None:
        """Write the values of Ray objects, each where it lies, as parts of this one."""

    def open_objects(self) -> list[Any]:
        """Read the values that ``create_objects`` wrote, as new Ray objects."""


class Format(Protocol):
    """A way to write values of some types."""

    name: str

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is of a type that this is for."""

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        """Write ``value`` and return what :meth:`load` needs, as plain data.

        :raises NotExactError: it would not come back equal.
        """

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        """Return the value."""


class _PandasFormat:
    """DataFrame and Series, in Arrow's stream format."""

    name = "pandas"

    def holds(self, value: Any) -> bool:
        return kind_of(value) in PANDAS_FRAMES

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        return write_pandas(value, streams)

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        return read_pandas(schema, streams)


class _ArrowFormat:
    """A pyarrow Table, in Arrow's stream format."""

    name = "arrow"

    def holds(self, value: Any) -> bool:
        return kind_of(value) == ARROW_TABLE

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        _write_table(value, streams)
        return {"rows": value.num_rows}

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        return _read_table(streams)


class _PolarsFormat:
    """A polars DataFrame, in Arrow's stream format."""

    name = "polars"

    def holds(self, value: Any) -> bool:
        return kind_of(value) == POLARS_FRAME

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        import polars as pl

        try:
            table = value.to_arrow()
            schema = pl.from_arrow(table.slice(0, 0)).schema
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise NotExactError(str(error)) from error
        changed = [name for name in value.schema if schema[name] != value.schema[name]]
        if changed:
            raise NotExactError(f"the columns {', '.join(changed)}")
        _write_table(table, streams)
        return {"rows": len(value)}

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        import polars as pl

        return pl.from_arrow(_read_table(streams))


class _NumpyFormat:
    """An array without Python objects, in NumPy's own format."""

    name = "npy"

    def holds(self, value: Any) -> bool:
        return kind_of(value) == ARRAY and not value.dtype.hasobject and value.dtype.kind in "biufcmMSUV"

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        import numpy as np

        try:
            np.lib.format.dtype_to_descr(value.dtype)
        # Fields that lie in another order than they are named in.
        except ValueError as error:
            raise NotExactError(str(error)) from error
        with streams.create("data") as stream:
            np.lib.format.write_array(stream, value, allow_pickle=False)
        return {"shape": list(value.shape), "dtype": str(value.dtype)}

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        import numpy as np

        with streams.open("data") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


class _PickleFormat:
    """Any other object, by pickle protocol 5; Ray objects in it (as in a Modin frame) become parts of it.

    Read it only after its signature has been found right: what is unpickled can run anything.
    """

    name = "pickle"

    def holds(self, value: Any) -> bool:
        return True

    def dump(self, value: Any, streams: Streams) -> dict[str, Any]:
        with streams.create("data") as stream:
            try:
                # A pickler takes what is registered when it is made.
                with as_shown():
                    pickler = pickler_without_objects(stream, for_file=True)
                    pickler.dump(value)
            except CheckpointFailure:
                raise
            # What a user's __reduce__ raises is anything.
            except Exception as error:
                raise CheckpointFailure(
                    FailureKind.CHECKPOINT_NOT_PICKLABLE, type(value).__qualname__, str(error)
                ) from error
        streams.create_objects(list(pickler.numbers))
        return {}

    def load(self, schema: dict[str, Any], streams: Streams) -> Any:
        refs = streams.open_objects()
        with streams.open("data") as stream:
            # An unpickler reads many small pieces.
            return unpickle_around(io.BufferedReader(stream, READ_BYTES), refs)


FORMATS: list[Format] = [_PandasFormat(), _ArrowFormat(), _PolarsFormat(), _NumpyFormat(), _PickleFormat()]


def _write_table(table: Any, streams: Streams) -> None:
    import pyarrow as pa

    cut = any(holds_views(field.type) for field in table.schema)
    # Earlier releases of pyarrow cannot tell what views show.
    size = table.get_total_buffer_size() if cut else table.nbytes
    rows = max(1, BATCH_BYTES * table.num_rows // max(1, size))
    with streams.create("data") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            arrays = map(compacted, batch.columns)
            writer.write_batch(pa.RecordBatch.from_arrays(list(arrays), schema=table.schema) if cut else batch)


def _read_table(streams: Streams) -> Any:
    import pyarrow as pa

    with streams.open("data") as stream, pa.ipc.open_stream(stream) as reader:
        return reader.read_all()
