"""Is one try of an Airflow task, in a process of its own: runs a real operator, and prints what the task returns.

The command line has a JSON object with the fields of :class:`Order`. At each moment that a fault may choose there is
a file in the folder whose name ends in .ready, and whoever comes there goes on when there is one that ends in .go.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator

CONN_ID = "ray_faults"
DAG_ID = "faults"
BYTES = 20_000_000
ROWS = 500_000


@dataclass
class Order:
    """What a process is to do.

    :param task_id: ``make`` or ``use``.
    :param run_id: of the run, the same for all tries.
    :param folder: for the files that tell of it.
    :param options: of the operator.
    """

    task_id: str
    run_id: str
    folder: str
    try_number: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


def reach(folder: str, moment: str) -> None:
    """Say that a moment is there, and wait until it may pass."""
    Path(folder, f"{moment}.ready").touch()
    while not Path(folder, f"{moment}.go").exists():
        time.sleep(0.05)


def note(folder: str, name: str) -> None:
    """Add the id of this process to a ledger."""
    with open(Path(folder, f"{name}.ledger"), "a") as ledger:
        ledger.write(f"{os.getpid()}\n")


def given_bytes() -> bytes:
    return random.Random(7).randbytes(BYTES)


def made_frame() -> Any:
    import numpy as np
    import pandas as pd

    numbers = np.random.default_rng(7)
    columns = {"number": numbers.random(ROWS), "count": numbers.integers(0, 100, ROWS)}
    return pd.DataFrame({**columns, "kind": pd.Categorical.from_codes(columns["count"] % 3, ["x", "y", "ü"])})


def hashes(frame: Any, blob: bytes) -> dict[str, str]:
    """Return the SHA-256 of a frame's bytes in Arrow's format, and of bytes."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return {"frame": hashlib.sha256(sink.getvalue()).hexdigest(), "blob": hashlib.sha256(blob).hexdigest()}


@cache
def expected() -> dict[str, str]:
    """Return what the second task returns where nothing was lost or changed."""
    return hashes(made_frame(), given_bytes())


def make(folder: str, given: bytes) -> dict[str, Any]:
    """Make two outputs with the help of an actor of its own."""
    import ray

    class Child:
        def pid(self) -> int:
            return os.getpid()

        def serve(self, given: bytes) -> bytes:
            return given

    note(folder, "make")
    child = ray.remote(num_cpus=0)(Child).remote()
    Path(folder, "child").write_text(str(ray.get(child.pid.remote())))
    print("working", flush=True)
    reach(folder, "call")
    blob = ray.get(child.serve.remote(given))
    return {"frame": made_frame(), "blob": blob}


def use(folder: str, frame: Any, blob: bytes) -> dict[str, str]:
    note(folder, "use")
    reach(folder, "use")
    return hashes(frame, blob)


class Task(RayPythonOperator):
    """An operator that stops at the moments of its process."""

    folder: str

    def _submit(self, uri: ObjectURI, context: Any) -> Any:
        if self.task_id == "make":
            reach(self.folder, "before")
            Path(self.folder, "submit.ready").touch()
        return super()._submit(uri, context)

    def _returned(self, uri: ObjectURI, progress: Any) -> Any:
        if self.task_id == "make":
            reach(self.folder, "result")
        return super()._returned(uri, progress)


class TaskInstance:
    """As much of a task instance as an operator asks of it."""

    dag_id, map_index, max_tries = DAG_ID, -1, 2

    def __init__(self, order: Order) -> None:
        self.task_id, self.run_id, self.try_number = order.task_id, order.run_id, order.try_number
        self.start_date = datetime.now(timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""


class DagRun:
    """As much of a DAG run as an operator asks of it."""

    conf: dict[str, Any] = {}
    clear_number = 0
    start_date = run_after = None


def operator_of(order: Order) -> Task:
    made = ObjectURI(CONN_ID, DAG_ID, order.run_id, "make")
    if order.task_id == "make":
        what = {"python_callable": make, "op_args": [order.folder, given_bytes()], "multiple_outputs": True}
    else:
        inputs = [str(made.with_key(key)) for key in ("frame", "blob")]
        what = {"python_callable": use, "op_args": [order.folder, *inputs], "result": "value"}
    task = Task(task_id=order.task_id, ray_conn_id=CONN_ID, num_cpus=1, retries=2, **{**what, **order.options})
    task.folder = order.folder
    return task


if __name__ == "__main__":
    order = Order(**json.loads(sys.argv[1]))
    returned = operator_of(order).execute({"ti": TaskInstance(order), "dag_run": DagRun(), "params": {}})
    print(json.dumps(returned))
