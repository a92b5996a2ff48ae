"""Columns of pandas as Arrow arrays, batch by batch, each so that it comes back identical."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


if TYPE_CHECKING:
    Spec = dict[str, Any]
    Encode = Callable[[int, int], Any]


BATCH_BYTES = 4 * 1024 * 1024


MAX_BATCH_ROWS = 1024 * 1024


SAMPLED_VALUES = 1000


NOT_A_TIME = -(2**63)


MASKED = frozenset({"boolean", "Float32", "Float64"} | {f"{u}Int{n}" for u in ("", "U") for n in (8, 16, 32, 64)})


# Python types whose values Arrow takes, and not always gives back as they were: each is compared.
COMPARED = frozenset({Decimal, date, time, timedelta, list})


class NotExactError(Exception):
    """Arrow cannot hold the value in a way that gives it back equal; the text says what of it."""


def encoder(array: Any) -> tuple[Spec, Encode]:
    """Return what :func:`decoder` needs, and a function that encodes the values from one row to another.

    :param array: a NumPy array, or an array of pandas'.
    :raises NotExactError: Arrow does not hold such values exactly. The function raises it too.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        return _object_encoder(array) if dtype.kind == "O" else _numpy_encoder(array)
    if isinstance(array, pd.Categorical):
        spec = {"kind": "category", "codes": str(array.codes.dtype), "ordered": array.ordered}
        return spec, _numpy_encode(array.codes)
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = array.tz_convert(None).to_numpy()
        spec = {"kind": "numpy", "dtype": str(naive.dtype), "timezone": _timezone_spec(dtype.tz)}
        return spec, _numpy_encode(naive)
    if isinstance(dtype, pd.StringDtype):
        spec = {"kind": "string", "storage": dtype.storage, "null": "NA" if dtype.na_value is pd.NA else "NaN"}
        return spec, lambda start, stop: _one_array(pa.array(array[start:stop], pa.large_string()))
    if isinstance(dtype, pd.ArrowDtype):
        return {"kind": "arrow"}, lambda start, stop: _one_array(pa.array(array[start:stop]))
    if str(dtype) in MASKED:
        return {"kind": "masked", "dtype": str(dtype)}, lambda start, stop: pa.array(array[start:stop])
    raise NotExactError(f"dtype {dtype}")


def _one_array(array: Any) -> Any:
    return array.combine_chunks() if hasattr(array, "num_chunks") else array


def _numpy_encoder(values: Any) -> tuple[Spec, Encode]:
    dtype = values.dtype
    number = dtype.kind in "biuf" and dtype.itemsize <= 8
    moment = dtype.kind in "mM" and dtype.str[3:] in ("[s]", "[ms]", "[us]", "[ns]")
    if not dtype.isnative or not (number or moment):
        raise NotExactError(f"dtype {dtype}")
    return {"kind": "numpy", "dtype": str(dtype)}, _numpy_encode(values)


def _numpy_encode(values: Any) -> Encode:
    import numpy as np
    import pyarrow as pa

    return lambda start, stop: pa.array(np.ascontiguousarray(values[start:stop]), from_pandas=False)


def _object_encoder(values: Any) -> tuple[Spec, Encode]:
    import numpy as np
    import pyarrow as pa

    kind, null = _kind_and_null(values)
    arrow_type = _object_type(values, kind, null)

    def encode(start: int, stop: int) -> Any:
        chunk = values[start:stop]
        nulls = _nulls(chunk, null)
        with _not_exact():
            array = pa.array(chunk, arrow_type, mask=nulls, from_pandas=False)
        if kind in COMPARED:
            decoded = array.to_pylist()
            for i in np.flatnonzero(~nulls):
                if not identical(decoded[i], chunk[i]):
                    raise NotExactError(f"an object column with {chunk[i]!r}")
        return array

    return {"kind": "object", "null": null}, encode


def _kind_and_null(values: Any) -> tuple[type | None, str]:
    """Return the one Python type of the values that are not null, None if all are, and what null is among them."""
    import pandas as pd

    kinds = set(map(type, values))
    null = "None"
    if type(None) in kinds:
        kinds.discard(type(None))
    elif type(pd.NA) in kinds:
        kinds.discard(type(pd.NA))
        null = "NA"
    elif float in kinds and len(kinds) > 1 and all(value != value for value in values if type(value) is float):
        kinds.discard(float)
        null = "NaN"
    if len(kinds) > 1:
        raise NotExactError(f"an object column of {', '.join(sorted(kind.__name__ for kind in kinds))}")
    return (kinds.pop() if kinds else None), null


def _object_type(values: Any, kind: type | None, null: str) -> Any:
    import pyarrow as pa

    simple: dict[type | None, Any] = {
        None: pa.null(),
        str: pa.large_string(),
        bytes: pa.large_binary(),
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
    }
    if kind in simple:
        return simple[kind]
    if kind not in COMPARED:
        raise NotExactError(f"an object column of {kind}")
    with _not_exact():
        return pa.infer_type(values[~_nulls(values, null)])


@contextmanager
def _not_exact() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
        raise NotExactError(f"an object column: {error}") from error


def _nulls(values: Any, null: str) -> Any:
    import numpy as np
    import pandas as pd

    if null == "NaN":
        is_null = (type(value) is float and math.isnan(value) for value in values)
    else:
        missing = None if null == "None" else pd.NA
        is_null = (value is missing for value in values)
    return np.fromiter(is_null, dtype=bool, count=len(values))


def batch_rows(arrays: list[Any], rows: int) -> int:
    """Return how many rows of these columns make a batch of about 4 MB."""
    row_bytes = 0
    for array in arrays:
        if array.dtype == object:
            sample = array[:: max(1, rows // SAMPLED_VALUES)]
            row_bytes += max(map(sys.getsizeof, sample), default=0)
        else:
            row_bytes += -(-array.nbytes // max(1, rows))
    return max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def identical(one: Any, other: Any) -> bool:
    """Whether two values are equal with all they hold, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, float) and one != one:
        return bool(other != other)
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    return bool(one == other)


def is_plain(spec: Spec) -> bool:
    """Whether a column is a NumPy array of that dtype and nothing else."""
    return spec["kind"] == "numpy" and "timezone" not in spec


def decoder(spec: Spec, rows: int, *, out: Any = None, categories: Any = None) -> Decoder:
    """Return what puts batches of a column together again.

    :param spec: what :func:`encoder` returned.
    :param rows: of the whole column.
    :param out: array to put the values of a :func:`plain <is_plain>` column into.
    :param categories: index of the categories where the column has such.
    """
    if spec["kind"] == "numpy":
        return _NumpyDecoder(spec, rows, out)
    if spec["kind"] == "category":
        return _CategoryDecoder(spec, rows, categories)
    if spec["kind"] == "object":
        return _ObjectDecoder(spec, rows)
    return _MaskedDecoder(spec, rows) if spec["kind"] == "masked" else _ArrowDecoder(spec)


class Decoder(Protocol):
    """Takes the batches of one column."""

    def put(self, start: int, array: Any) -> None:
        """Take the Arrow array that starts at row ``start``."""

    def finish(self, arrow_type: Any) -> Any:
        """Return the values: a NumPy array or one of pandas'."""


class _NumpyDecoder:
    def __init__(self, spec: Spec, rows: int, out: Any = None) -> None:
        import numpy as np

        self._timezone = spec.get("timezone")
        self._values = np.empty(rows, spec["dtype"]) if out is None else out

    def put(self, start: int, array: Any) -> None:
        import pyarrow as pa

        dtype = self._values.dtype
        if dtype.kind in "mM":
            numbers = array.view(pa.int64()).fill_null(NOT_A_TIME).to_numpy(zero_copy_only=False)
            self._values[start : start + len(array)] = numbers.view(dtype)
        else:
            self._values[start : start + len(array)] = array.to_numpy(zero_copy_only=False)

    def finish(self, arrow_type: Any) -> Any:
        import pandas as pd

        if self._timezone is None:
            return self._values
        return pd.DatetimeIndex(self._values).tz_localize("UTC").tz_convert(_timezone(self._timezone)).array


class _CategoryDecoder(_NumpyDecoder):
    def __init__(self, spec: Spec, rows: int, categories: Any) -> None:
        super().__init__({"dtype": spec["codes"]}, rows)
        self._categories = categories
        self._ordered = spec["ordered"]

    def finish(self, arrow_type: Any) -> Any:
        import pandas as pd

        dtype = pd.CategoricalDtype(self._categories, self._ordered)
        return pd.Categorical.from_codes(self._values, dtype=dtype)


class _ObjectDecoder:
    def __init__(self, spec: Spec, rows: int) -> None:
        import numpy as np
        import pandas as pd

        self._values = np.empty(rows, object)
        self._null = {"None": None, "NaN": math.nan, "NA": pd.NA}[spec["null"]]

    def put(self, start: int, array: Any) -> None:
        import numpy as np

        values = self._values[start : start + len(array)]
        values[:] = np.fromiter(array.to_pylist(), dtype=object, count=len(array))
        if self._null is not None and array.null_count:
            values[array.is_null().to_numpy(zero_copy_only=False)] = self._null

    def finish(self, arrow_type: Any) -> Any:
        return self._values


class _MaskedDecoder:
    def __init__(self, spec: Spec, rows: int) -> None:
        import numpy as np
        import pandas as pd

        self._dtype: Any = pd.api.types.pandas_dtype(spec["dtype"])
        self._values = np.zeros(rows, self._dtype.numpy_dtype)
        self._mask = np.zeros(rows, bool)

    def put(self, start: int, array: Any) -> None:
        rows = slice(start, start + len(array))
        self._mask[rows] = array.is_null().to_numpy(zero_copy_only=False)
        zero = False if self._values.dtype.kind == "b" else 0
        self._values[rows] = array.fill_null(zero).to_numpy(zero_copy_only=False)

    def finish(self, arrow_type: Any) -> Any:
        return self._dtype.construct_array_type()(self._values, self._mask)


class _ArrowDecoder:
    """Keeps the Arrow arrays, as pandas does for such a column."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._chunks: list[Any] = []

    def put(self, start: int, array: Any) -> None:
        self._chunks.append(array)

    def finish(self, arrow_type: Any) -> Any:
        import pandas as pd
        import pyarrow as pa

        chunked = pa.chunked_array(self._chunks, arrow_type)
        if self._spec["kind"] == "arrow":
            return pd.arrays.ArrowExtensionArray(chunked)
        null = {} if self._spec["null"] == "NA" else {"na_value": math.nan}
        return pd.StringDtype(self._spec["storage"], **null).__from_arrow__(chunked)


def _timezone_spec(tz: Any) -> list[Any]:
    """Return library and name of a time zone, which pandas compares as well as the zone itself."""
    library = type(tz).__module__.partition(".")[0]
    name: Any = None
    if isinstance(tz, timezone):
        library, name = "datetime", tz.utcoffset(None).total_seconds()
    elif library == "zoneinfo":
        name = tz.key
    elif library == "pytz":
        name = tz.zone or tz._minutes
    spec = [library, name]
    if name is None or not _equal_zones(_timezone(spec), tz):
        raise NotExactError(f"the time zone {tz!r}")
    return spec


def _equal_zones(one: Any, other: Any) -> bool:
    return bool(one == other) and str(one) == str(other)


def _timezone(spec: list[Any]) -> Any:
    library, name = spec
    if library == "datetime":
        return timezone.utc if name == 0 else timezone(timedelta(seconds=name))
    if library == "zoneinfo":
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    import pytz

    return pytz.FixedOffset(name) if isinstance(name, int) else pytz.timezone(name)
