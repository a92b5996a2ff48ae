"""Run each example once on a real Airflow and a Ray head, and write down for its page what came of it.

``python -m tools.gallery [NAME …]`` runs those that are named, or all, one after another, with the parameters that they
have by default. What the file says of those that cannot run here stays.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.object_uri import ObjectURI, is_object_uri
from tools.example import EXAMPLES, ROOT, XCOM_BACKEND, described, run_as_command
from tools.ray_cluster import RayHead
from tools.standalone import StandaloneAirflow

RUNS = ROOT / "docs" / "examples" / "runs.json"
RUN_SECONDS = 900.0
SCRIPT = "generate_higgs"
# Of the file that has two DAGs: the first one starts the second.
DAGS = {"asset_events": ("asset_producer", "asset_consumer")}
# Of lines that are the task's own or this package's, and not Airflow's.
LOGGERS = ("task.std", "airflow.task.operators", "airflow_ray")
LAST_LINES = 12
LONGEST_VALUE = 120


def main() -> None:
    """Run the examples and write the file, after each of them."""
    runs: dict[str, Any] = json.loads(RUNS.read_text())
    names = sys.argv[1:] or [name for name, run in runs.items() if "elsewhere" not in run]
    processors = os.cpu_count() or 1
    where = {
        "date": date.today().isoformat(),
        "processors": processors,
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "ray": version("ray"),
    }
    with tempfile.TemporaryDirectory(prefix="gallery-") as folder:
        # Where examples write by default.
        homes = {"HOME": folder, "TMPDIR": folder}
        # A job calls Python by its name.
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        dashboard = free_ports(1)[0]
        head = RayHead(num_cpus=max(2, processors), dashboard_port=dashboard, environment={**homes, **path})
        try:
            url = quote(f"http://127.0.0.1:{dashboard}", safe="")
            uri = f"{head.gateway_uri}&connect_timeout=120&dashboard_url={url}"
            environment = {"AIRFLOW_CONN_RAY_DEFAULT": uri, **homes, **XCOM_BACKEND}
            with StandaloneAirflow(Path(folder, "airflow"), EXAMPLES, environment) as airflow:
                # What the script writes, another one reads.
                for name in sorted(names, key=lambda each: each != SCRIPT):
                    print(f"Running {name}", flush=True)
                    came = _script({**os.environ, **homes}) if name == SCRIPT else _dags(airflow, name)
                    runs[name] = json.loads(json.dumps({**where, **came}).replace(folder, "/tmp"))
                    # A line for each, which a later run changes alone.
                    lines = (f" {json.dumps(each)}: {json.dumps(run)}" for each, run in runs.items())
                    RUNS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        finally:
            head.stop()


def _script(environment: dict[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    command = [sys.executable, str(EXAMPLES / f"{SCRIPT}.py")]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"seconds": round(time.monotonic() - started, 1), "tasks": [], "log": output.splitlines()}


def _dags(airflow: StandaloneAirflow, name: str) -> dict[str, Any]:
    seconds = 0.0
    tasks: list[dict[str, Any]] = []
    log: list[str] = []
    for dag_id in DAGS.get(name, (name,)):
        # Not the first of them: then the one before has started it.
        run_id = airflow.first_run(dag_id, RUN_SECONDS) if tasks else airflow.trigger(dag_id)
        if airflow.wait(dag_id, run_id, RUN_SECONDS) != "success":
            raise RuntimeError(f"{dag_id} has failed")
        seconds += _seconds(airflow.run(dag_id, run_id))
        started = airflow.task_instances(dag_id, run_id)
        order = [each["task_id"] for each in started]
        instances = sorted(started, key=lambda each: (order.index(each["task_id"]), each["map_index"]))
        places = [(dag_id, run_id, each["task_id"], each["map_index"]) for each in instances]
        records = described(airflow, [ObjectURI("ray_default", *place) for place in places])
        for place, instance, record in zip(places, instances, records, strict=True):
            tasks.append(_task(instance, record, airflow.xcoms(*place).get("return_value")))
        entries = airflow.log_entries(dag_id, run_id, instances[-1]["task_id"], map_index=instances[-1]["map_index"])
        log = [str(each["event"]) for each in entries if str(each.get("logger")).startswith(LOGGERS)]
    return {"seconds": round(seconds, 1), "tasks": tasks, "log": log[-LAST_LINES:]}


def _task(instance: dict[str, Any], record: dict[str, Any], returned: Any) -> dict[str, Any]:
    """Return how long a task took, and of one on Ray what it had reserved, and what it made or returned."""
    index = f" [{instance['map_index']}]" if instance["map_index"] >= 0 else ""
    told = {"task": instance["task_id"] + index, "seconds": round(_seconds(instance), 1)}
    if "asked" in record:
        told |= {"reserved": record["asked"], "memory": (record["used"] or {}).get("memory")}
    if is_object_uri(returned) or (isinstance(returned, dict) and any(map(is_object_uri, returned.values()))):
        names = "type", "shape", "bytes"
        outputs = record.get("outputs", {}).items()
        return {**told, "made": {key: {name: each.get(name) for name in names} for key, each in outputs}}
    return {**told, "returned": returned} if len(json.dumps(returned)) <= LONGEST_VALUE else told


def _seconds(of: dict[str, Any]) -> float:
    """Return how long a run or a task instance took, as Airflow describes it."""
    begin, end = (datetime.fromisoformat(of[name].replace("Z", "+00:00")) for name in ("start_date", "end_date"))
    return (end - begin).total_seconds()


if __name__ == "__main__":
    run_as_command(main)
