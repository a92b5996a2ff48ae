"""Arrow arrays to columns of pandas, batch by batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ray.cluster.checkpoints.time_zones import zone_of

if TYPE_CHECKING:
    from airflow_ray.cluster.checkpoints.column_encoders import Spec

NOT_A_TIME = -(2**63)


def is_plain(spec: Spec) -> bool:
    """Whether a column is a NumPy array of that dtype and nothing else."""
    return spec["kind"] == "numpy" and "timezone" not in spec


def decoder(spec: Spec, rows: int, *, out: Any = None, categories: Any = None) -> Decoder:
    """Return what puts batches of a column together again.

    :param spec: what :func:`~.column_encoders.encoder` returned.
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
        return pd.DatetimeIndex(self._values).tz_localize("UTC").tz_convert(zone_of(self._timezone)).array


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
