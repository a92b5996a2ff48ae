"""Columns of pandas to Arrow arrays, batch by batch, each so that it comes back identical."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.exactness import NotExactError, identical
from airflow_ray.cluster.checkpoints.time_zones import zone_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Spec = dict[str, Any]
    Encode = Callable[[int, int], Any]

BATCH_BYTES = 4 * 1024 * 1024
MAX_BATCH_ROWS = 1024 * 1024
SAMPLED_VALUES = 1000
MASKED = frozenset({"boolean", "Float32", "Float64"} | {f"{u}Int{n}" for u in ("", "U") for n in (8, 16, 32, 64)})
# Python types whose values Arrow takes, and not always gives back as they were: each is compared.
COMPARED = frozenset({Decimal, date, time, timedelta, list})


def encoder(array: Any) -> tuple[Spec, Encode]:
    """Return what a decoder needs, and a function that encodes the values from one row to another.

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
        spec = {"kind": "numpy", "dtype": str(naive.dtype), "timezone": zone_spec(dtype.tz)}
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
