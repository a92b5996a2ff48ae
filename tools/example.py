"""Runs of the example DAGs on a real Airflow and an embedded Ray, and what came of them."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.object_uri import ObjectURI
from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow, print_table, stop_by_sigterm_as_by_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
RUN_SECONDS = 300.0
XCOM_BACKEND = {"AIRFLOW__CORE__XCOM_BACKEND": "airflow_ray.xcom.RayXComBackend"}
COLUMNS = ("task", "type", "size", "node", "seconds", "object URI or value")

# Runs in a process of its own, with Airflow's environment: it is the library as a user's script has it.
DESCRIBE = """
import json, sys
from airflow_ray.hooks.ray import RayHook

with RayHook().connect() as hook:
    print(json.dumps([hook.describe(uri) for uri in sys.argv[1:]]))
"""


class ExampleRun:
    """A run of an example that has succeeded, on an Airflow that still runs."""

    def __init__(self, airflow: StandaloneAirflow, dag_id: str, run_id: str) -> None:
        self.airflow, self.dag_id, self.run_id = airflow, dag_id, run_id

    def returned(self, task_id: str) -> Any:
        """Return what a task has returned to Airflow."""
        return self.airflow.xcoms(self.dag_id, self.run_id, task_id)["return_value"]

    def show_outputs(self) -> None:
        """Print what each task has returned, and where it lies."""
        tasks = [instance["task_id"] for instance in self.airflow.task_instances(self.dag_id, self.run_id)]
        uris = [ObjectURI("ray_default", self.dag_id, self.run_id, task) for task in tasks]
        rows = []
        for task, record in zip(tasks, described(self.airflow, uris), strict=True):
            returned = self.returned(task)
            for key, output in record.get("outputs", {"return_value": None}).items():
                value = returned if key == "return_value" else returned[key]
                rows.append((task, *_described_output(value, output, record), str(value)))
        print_table([COLUMNS, *rows])


@contextmanager
def example_run(home: Path, dag_id: str, explanation: str, conf: dict[str, Any] | None = None) -> Iterator[ExampleRun]:
    """Run an example, and keep Airflow and Ray for as long as the block looks at the run.

    :param home: folder for Airflow and Ray.
    :param explanation: what there is to see, for the reader of the terminal.
    :param conf: the run's configuration.
    :raises SystemExit: the run failed; the logs of the tasks that failed are printed.
    """
    print("Starting Airflow; the first task starts Ray. No cluster, account or setting is needed.")
    environment = {"AIRFLOW_CONN_RAY_DEFAULT": LOCAL_CONNECTION, **XCOM_BACKEND}
    with StandaloneAirflow(home, EXAMPLES, environment) as airflow:
        print(f"Running {dag_id}: {explanation}")
        run_id = airflow.trigger(dag_id, conf)
        if airflow.wait(dag_id, run_id, RUN_SECONDS) != "success":
            _show_failure(airflow, dag_id, run_id)
            sys.exit(1)
        yield ExampleRun(airflow, dag_id, run_id)


def described(airflow: StandaloneAirflow, uris: Iterable[ObjectURI]) -> list[dict[str, Any]]:
    """Return what the cluster of an Airflow knows of the work for each of these URIs."""
    command = [sys.executable, "-c", DESCRIBE, *map(str, uris)]
    finished = subprocess.run(command, env=airflow.environment, stdout=subprocess.PIPE, text=True, check=True)
    records: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    return records


def write_higgs_file(path: Path | None, rows: int) -> Path:
    """Write a file of the shape of the HIGGS data unless it is there, and return its path.

    :param path: None for the one that the example reads by default.
    """
    generator = runpy.run_path(str(EXAMPLES / "generate_higgs.py"))
    path = path or Path(generator["DEFAULT_PATH"])
    if not path.exists():
        generator["generate"](rows, path)
    return path


def run_as_command(main: Callable[[], None]) -> None:
    """Call ``main``; Ctrl-C and SIGTERM let it clean up and end this process."""
    stop_by_sigterm_as_by_ctrl_c()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)


def _show_failure(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> None:
    for instance in airflow.task_instances(dag_id, run_id):
        if instance["state"] == "failed":
            print(f"\nTask {instance['task_id']} failed:\n", file=sys.stderr)
            print(airflow.log(dag_id, run_id, instance["task_id"], instance["try_number"]), file=sys.stderr)


def _described_output(value: Any, output: dict[str, Any] | None, record: dict[str, Any]) -> tuple[str, ...]:
    """Return type, size, node and seconds; a plain Airflow task has no record on Ray."""
    if output is None:
        return type(value).__name__, "-", "Airflow worker", "-"
    shape = " x ".join(map(str, output.get("shape", [])))
    bytes_held = f"{output['bytes']:,} bytes" if "bytes" in output else "-"
    return output["type"], ", ".join(filter(None, [shape, bytes_held])), record["node"], f"{record['seconds']:.2f}"
