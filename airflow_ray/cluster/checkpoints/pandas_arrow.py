"""pandas columns as Arrow arrays, batch by batch, so that they come back equal in every respect.

pyarrow's own conversion does not promise that: it turns None into NaN, lists into arrays, drops the
frequency of an index, and refuses duplicate column names. What is not held exactly here is refused, and
the caller stores it in another way.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.column_decoders import decoder, is_plain
from airflow_ray.cluster.checkpoints.column_encoders import batch_rows, encoder
from airflow_ray.cluster.checkpoints.exactness import NotExactError, identical

if TYPE_CHECKING:
    from airflow_ray.cluster.checkpoints.column_encoders import Encode, Spec


def write_pandas(value: Any, streams: Any) -> dict[str, Any]:
    """Write a DataFrame or a Series and return the plain data that :func:`read_pandas` needs.

    :param streams: ``streams.create(name)`` is a context manager for a writable file.
    :raises NotExactError: see there.
    """
    import pandas as pd

    is_series = type(value) is pd.Series
    frame = value.to_frame(0) if is_series else value
    writer = _Writer(streams)
    return {
        "kind": "series" if is_series else "frame",
        "name": _label_spec(value.name) if is_series else None,
        "attrs": _json_spec(frame.attrs),
        "duplicate_labels": value.flags.allows_duplicate_labels,
        "rows": len(frame),
        "index": writer.index("index", frame.index),
        "columns": writer.index("columns", frame.columns),
        "data": writer.columns("data", [_values(frame.iloc[:, i]) for i in range(frame.shape[1])], len(frame)),
    }


def read_pandas(spec: dict[str, Any], streams: Any) -> Any:
    """Return the DataFrame or Series that :func:`write_pandas` wrote.

    :param streams: ``streams.open(name)`` is a context manager for a readable file.
    """
    import pandas as pd

    reader = _Reader(streams)
    index = reader.index(spec["index"])
    block = _block(spec["data"]["columns"], spec["rows"])
    with streams.open(spec["data"]["stream"]) as stream:
        # Their names are read while the first of the data is on its way.
        columns = reader.index(spec["columns"]) if spec["kind"] == "frame" else None
        arrays = reader.columns_in(stream, spec["data"], spec["rows"], block)
    if spec["kind"] == "series":
        value: Any = _series(arrays[0], index)
        value.name = _label(spec["name"])
    elif block is not None:
        value = pd.DataFrame(block.T, index=index, copy=False)
    else:
        value = pd.DataFrame({i: _series(array, index) for i, array in enumerate(arrays)}, index=index, copy=False)
    if columns is not None:
        value.columns = columns
    value.attrs = spec["attrs"]
    return value if spec["duplicate_labels"] else value.set_flags(allows_duplicate_labels=False)


def _series(array: Any, index: Any) -> Any:
    """Return a Series of these very values: without its dtype, pandas takes objects for times where it can."""
    import pandas as pd

    return pd.Series(array, index=index, dtype=array.dtype, copy=False)


def _values(column: Any) -> Any:
    """Return the values of a Series or an Index: a NumPy array, or one of pandas' where NumPy has no such dtype."""
    import numpy as np

    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def _frequency_spec(index: Any) -> str | None:
    import pandas as pd

    text: str | None = getattr(index, "freqstr", None)
    if text is not None:
        try:
            known = pd.tseries.frequencies.to_offset(text)
        except ValueError:
            known = None
        if known != index.freq:
            raise NotExactError(f"the frequency {text}")
    return text


class _Writer:
    def __init__(self, streams: Any) -> None:
        self._streams = streams

    def index(self, name: str, index: Any) -> Spec:
        import pandas as pd

        names = [_label_spec(each) for each in index.names]
        if type(index) is pd.RangeIndex:
            return {"kind": "range", "start": index.start, "stop": index.stop, "step": index.step, "names": names}
        if type(index) is pd.MultiIndex:
            levels = [self.index(f"{name}.level{i}", level) for i, level in enumerate(index.levels)]
            codes = self.columns(f"{name}.codes", list(index.codes), len(index))
            return {"kind": "multi", "levels": levels, "codes": codes, "rows": len(index), "names": names}
        data = self.columns(name, [_values(index)], len(index))
        frequency = _frequency_spec(index)
        return {"kind": "plain", "data": data, "rows": len(index), "frequency": frequency, "names": names}

    def columns(self, name: str, arrays: list[Any], rows: int) -> Spec:
        """Write equally long arrays as one Arrow stream."""
        import pyarrow as pa

        encoders = [self._encoder(f"{name}.{i}", array) for i, array in enumerate(arrays)]
        step = batch_rows(arrays, rows)
        schema = pa.schema([(str(i), encode(0, 0).type) for i, (_, encode) in enumerate(encoders)])
        with self._streams.create(name) as stream, pa.ipc.new_stream(stream, schema) as writer:
            for start in range(0, rows if arrays else 0, step):
                encoded = [encode(start, min(start + step, rows)) for _, encode in encoders]
                writer.write_batch(pa.record_batch(encoded, schema=schema))
        return {"stream": name, "columns": [spec for spec, _ in encoders]}

    def _encoder(self, name: str, array: Any) -> tuple[Spec, Encode]:
        spec, encode = encoder(array)
        if spec["kind"] == "category":
            spec["categories"] = self.index(f"{name}.categories", array.categories)
        return spec, encode


class _Reader:
    def __init__(self, streams: Any) -> None:
        self._streams = streams

    def index(self, spec: Spec) -> Any:
        import pandas as pd

        names = [_label(each) for each in spec["names"]]
        if spec["kind"] == "range":
            return pd.RangeIndex(spec["start"], spec["stop"], spec["step"], name=names[0])
        if spec["kind"] == "multi":
            levels = [self.index(level) for level in spec["levels"]]
            codes = self.columns(spec["codes"], spec["rows"])
            return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
        (values,) = self.columns(spec["data"], spec["rows"])
        if spec["frequency"] is not None:
            made = pd.DatetimeIndex if values.dtype.kind == "M" else pd.TimedeltaIndex
            return made(values, freq=spec["frequency"], name=names[0])
        return pd.Index(values, dtype=values.dtype, name=names[0])

    def columns(self, spec: Spec, rows: int) -> list[Any]:
        """Read the columns of one Arrow stream."""
        with self._streams.open(spec["stream"]) as stream:
            return self.columns_in(stream, spec, rows)

    def columns_in(self, stream: Any, spec: Spec, rows: int, block: Any = None) -> list[Any]:
        """Read the columns of an Arrow stream that is open, into the rows of ``block`` if there is one."""
        import pyarrow as pa

        specs = spec["columns"]
        decoders = []
        for i, each in enumerate(specs):
            categories = self.index(each["categories"]) if "categories" in each else None
            decoders.append(decoder(each, rows, out=None if block is None else block[i], categories=categories))
        with pa.ipc.open_stream(stream) as reader:
            start = 0
            for batch in reader:
                for each, array in zip(decoders, batch.columns, strict=True):
                    each.put(start, array)
                start += batch.num_rows
            return [each.finish(field.type) for each, field in zip(decoders, reader.schema, strict=True)]


def _block(specs: list[Spec], rows: int) -> Any:
    """Return an array for all columns where they share one NumPy dtype: pandas takes it as it is."""
    import numpy as np

    dtypes = {each["dtype"] if is_plain(each) else None for each in specs}
    return np.empty((len(specs), rows), *dtypes) if len(dtypes) == 1 and None not in dtypes else None


def _json_spec(value: Any) -> Any:
    """Return ``value`` if JSON gives it back identical."""
    try:
        exact = _same_json(json.loads(json.dumps(value)), value)
    except (TypeError, ValueError):
        exact = False
    if not exact:
        raise NotExactError(f"attrs {value!r}")
    return value


def _same_json(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and type(other) is dict:
        return one.keys() == other.keys() and all(_same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and type(other) is list:
        return len(one) == len(other) and all(map(_same_json, one, other))
    return identical(one, other)


def _label_spec(label: Any) -> Any:
    """Return the name of an index or a Series as plain data; a tuple becomes a list, which no name can be."""
    if isinstance(label, tuple) and type(label) is tuple:
        return [_label_spec(each) for each in label]
    if type(label) in (str, bool, int, type(None)) or (type(label) is float and math.isfinite(label)):
        return label
    raise NotExactError(f"the name {label!r}")


def _label(spec: Any) -> Any:
    return tuple(map(_label, spec)) if isinstance(spec, list) else spec
