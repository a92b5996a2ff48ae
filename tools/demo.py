"""Run an example DAG on a real Airflow and an embedded Ray, and show what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow, print_table, stop_by_sigterm_as_by_ctrl_c

ROOT = Path(__file__).parent.parent
DAG_ID = "xgboost_breast_cancer"
RUN_SECONDS = 300.0
COLUMNS = ("task", "type", "size", "node", "seconds", "object URI or value")

# Runs in a process of its own, with Airflow's environment: it is the library as a user's script has it.
DESCRIBE = """
import json, sys
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

dag_id, run_id, *tasks = sys.argv[1:]
with RayHook().connect() as hook:
    print(json.dumps({task: hook.describe(ObjectURI("ray_default", dag_id, run_id, task)) for task in tasks}))
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
            return show_failure(airflow, DAG_ID, run_id)
        _show_outputs(airflow, run_id)
        accuracy = airflow.xcoms(DAG_ID, run_id, "report")["return_value"]
    print(f"\nAccuracy on the held-out quarter: {accuracy:.3f}   ({time.monotonic() - started:.0f} s in all)")
    return 0


def show_failure(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> int:
    """Print the logs of the tasks that failed, and return the exit status."""
    for instance in airflow.task_instances(dag_id, run_id):
        if instance["state"] == "failed":
            print(f"\nTask {instance['task_id']} failed:\n", file=sys.stderr)
            print(airflow.log(dag_id, run_id, instance["task_id"], instance["try_number"]), file=sys.stderr)
    return 1


def _show_outputs(airflow: StandaloneAirflow, run_id: str) -> None:
    tasks = [instance["task_id"] for instance in airflow.task_instances(DAG_ID, run_id)]
    records = _described(airflow, run_id, tasks)
    rows = []
    for task in tasks:
        returned = airflow.xcoms(DAG_ID, run_id, task)["return_value"]
        record = records[task]
        for key, output in record.get("outputs", {"return_value": None}).items():
            value = returned[key] if isinstance(returned, dict) else returned
            rows.append((task, *_described_output(value, output, record), str(value)))
    print_table([COLUMNS, *rows])


def _described(airflow: StandaloneAirflow, run_id: str, tasks: list[str]) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-c", DESCRIBE, DAG_ID, run_id, *tasks],
        env=airflow.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    described: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return described


def _described_output(value: Any, output: dict[str, Any] | None, record: dict[str, Any]) -> tuple[str, ...]:
    """Return type, size, node and seconds; a plain Airflow task has no record on Ray."""
    if output is None:
        return type(value).__name__, "-", "Airflow worker", "-"
    shape = " x ".join(map(str, output.get("shape", [])))
    bytes_held = f"{output['bytes']:,} bytes" if "bytes" in output else "-"
    return output["type"], ", ".join(filter(None, [shape, bytes_held])), record["node"], f"{record['seconds']:.2f}"


if __name__ == "__main__":
    stop_by_sigterm_as_by_ctrl_c()
    try:
        sys.exit(main(ROOT / ".airflow" / "demo", ROOT / "examples"))
    except KeyboardInterrupt:
        sys.exit(130)
