"""Run an example DAG on a real Airflow and an embedded Ray, and show what came of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow

ROOT = Path(__file__).parent.parent
DAG_ID = "xgboost_breast_cancer"
RUN_SECONDS = 300.0
COLUMNS = ("task", "object URI or value", "type", "size", "node", "seconds")

# Runs in a process of its own, with Airflow's environment: it is the library as a user's script has it.
DESCRIBE = """
import json, sys
from airflow_ray.hooks.ray import RayHook

with RayHook().connect() as hook:
    print(json.dumps({uri: hook.describe(uri) for uri in json.load(sys.stdin)}))
"""


def main(home: Path, dags_folder: Path) -> int:
    """Run the DAG and print its outputs; return the exit status.

    :param home: folder for Airflow and Ray.
    :param dags_folder: folder with the DAG file.
    """
    started = time.monotonic()
    print("Starting Airflow; the first task starts Ray. No cluster, account or setting is needed.")
    environment = {"AIRFLOW_CONN_RAY_DEFAULT": LOCAL_CONNECTION}
    with StandaloneAirflow(home, dags_folder, environment) as airflow:
        print(f"Running {DAG_ID}: each task is a process of its own, the DataFrames stay in Ray.")
        run_id = airflow.trigger(DAG_ID)
        if airflow.wait(DAG_ID, run_id, RUN_SECONDS) != "success":
            return _show_failure(airflow, run_id)
        _show_outputs(airflow, run_id)
        accuracy = airflow.xcoms(DAG_ID, run_id, "report")["return_value"]
    print(f"\nAccuracy on the held-out quarter: {accuracy:.3f}   ({time.monotonic() - started:.0f} s in all)")
    return 0


def _show_failure(airflow: StandaloneAirflow, run_id: str) -> int:
    for instance in airflow.task_instances(DAG_ID, run_id):
        if instance["state"] == "failed":
            print(f"\nTask {instance['task_id']} failed:\n", file=sys.stderr)
            print(airflow.log(DAG_ID, run_id, instance["task_id"], instance["try_number"]), file=sys.stderr)
    return 1


def _show_outputs(airflow: StandaloneAirflow, run_id: str) -> None:
    tasks = [instance["task_id"] for instance in airflow.task_instances(DAG_ID, run_id)]
    xcoms = {task: airflow.xcoms(DAG_ID, run_id, task)["return_value"] for task in tasks}
    rows: list[tuple[str, ...]] = []
    # A task with several outputs returns a dict of object URIs.
    values = [(task, value) for task in tasks for value in _parts(xcoms[task])]
    uris = [value for _, value in values if str(value).startswith("ray-object://")]
    records = _described(airflow, uris)
    for task, value in values:
        rows.append(_row(task, value, records.get(value)) if value in uris else _value_row(task, value))
    _print_table(rows)


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _described(airflow: StandaloneAirflow, uris: list[str]) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-c", DESCRIBE],
        env=airflow.environment,
        input=json.dumps(uris),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    described: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return described


def _row(task: str, uri: str, record: Any) -> tuple[str, ...]:
    output = record["outputs"][uri.rpartition("/")[2]]
    size = " x ".join(map(str, output.get("shape", [])))
    shown = ", ".join(filter(None, [size, f"{output['bytes']:,} bytes"]))
    return task, uri, output["type"], shown, record["node"], f"{record['seconds']:.2f}"


def _value_row(task: str, value: Any) -> tuple[str, ...]:
    return task, json.dumps(value), type(value).__name__, "in Airflow's database", "", ""


def _print_table(rows: list[tuple[str, ...]]) -> None:
    table = [COLUMNS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main(ROOT / ".airflow" / "demo", ROOT / "examples"))
    except KeyboardInterrupt:
        sys.exit(130)
