"""A small table of each kind that goes from task to task, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

ROWS = 1000
TEXT = "é/ü"


def make_pandas() -> Any:
    import pandas as pd

    return pd.DataFrame({"a": range(ROWS), "b": pd.Categorical([TEXT] * ROWS)})


def make_arrow() -> Any:
    import pyarrow as pa

    return pa.table({"a": list(range(ROWS)), "b": [TEXT] * ROWS})


def make_polars() -> Any:
    import polars as pl

    return pl.DataFrame({"a": range(ROWS), "b": [TEXT] * ROWS})


def make_modin() -> Any:
    import modin.pandas as mpd

    return mpd.DataFrame({"a": range(ROWS), "b": [TEXT] * ROWS})


def make_dataset() -> Any:
    import ray

    return ray.data.from_items([{"a": i, "b": TEXT} for i in range(ROWS)], override_num_blocks=4).materialize()


def make_numpy() -> Any:
    import numpy as np

    return np.stack([np.arange(ROWS), np.zeros(ROWS, dtype=int)], axis=1)


def make_matrix() -> Any:
    import pandas as pd
    from xgboost_ray import RayDMatrix

    return RayDMatrix(pd.DataFrame({"a": range(ROWS), "b": [0, 1] * (ROWS // 2)}), label="b", num_actors=2)


KINDS: dict[str, Callable[[], Any]] = {
    name.removeprefix("make_"): value for name, value in list(globals().items()) if name.startswith("make_")
}
# Modin needs pandas 2.
MAKERS = {kind: make for kind, make in KINDS.items() if kind != "modin" or find_spec("modin")}
TYPES = {
    "pandas": "pandas.core.frame.DataFrame" if version("pandas").startswith("2.") else "pandas.DataFrame",
    "arrow": "pyarrow.lib.Table",
    "polars": "polars.dataframe.frame.DataFrame",
    "modin": "modin.pandas.dataframe.DataFrame",
    "dataset": "ray.data.dataset.MaterializedDataset",
    "numpy": "numpy.ndarray",
    "matrix": "xgboost_ray.matrix.RayDMatrix",
}


def look_at(value: Any) -> list[Any]:
    """Return type, the sum of the first column and the first text of a table."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind == TYPES["matrix"]:
        return [kind, sum(int(value.get_data(rank)["data"]["a"].sum()) for rank in range(2)), None]
    if kind == TYPES["numpy"]:
        return [kind, int(value[:, 0].sum()), None]
    if kind == TYPES["dataset"]:
        return [kind, *look_at(value.to_pandas())[1:]]
    if kind == TYPES["arrow"]:
        return [kind, sum(value["a"].to_pylist()), value["b"][0].as_py()]
    return [kind, int(value["a"].sum()), str(value["b"][0])]


def expected(kind: str) -> list[Any]:
    return [TYPES[kind], ROWS * (ROWS - 1) // 2, None if kind in ("matrix", "numpy") else TEXT]


def make(hook: RayHook, uri: ObjectURI, kind: str) -> None:
    hook.submit(MAKERS[kind], uri=uri)


def checkpoint(hook: RayHook, uri: ObjectURI, kind: str) -> None:
    hook.submit(MAKERS[kind], uri=uri, checkpoint=True)


def use(hook: RayHook, uri: ObjectURI, kind: str) -> None:
    hook.submit(look_at, uri, uri=ObjectURI(uri.conn_id, uri.dag_id, uri.run_id, f"use_{kind}"))


def put(hook: RayHook, uri: ObjectURI, kind: str) -> None:
    hook.put(MAKERS[kind](), uri=uri)


def main(step: str, conn_id: str, run_id: str, *kinds: str) -> dict[str, Any]:
    """Do one step for each kind of table, in this process of its own, and return what is known of each."""
    uris = {kind: ObjectURI(conn_id, "frames", run_id, kind) for kind in kinds}
    told: dict[str, Any] = {}
    with RayHook(conn_id).connect() as hook:
        if step == "get":
            return {kind: look_at(hook.get(uri)) for kind, uri in uris.items()}
        for kind, uri in uris.items():
            globals()[step](hook, uri, kind)
        for kind, uri in uris.items():
            done = ObjectURI(conn_id, "frames", run_id, f"use_{kind}") if step == "use" else uri
            record = hook.wait(done)
            told[kind] = [record["inputs"][0]["source"], *hook.get(done)] if step == "use" else record["outputs"]
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
