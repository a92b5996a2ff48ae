"""What the import of operators, sensors and decorators adds to a DAG file, which Airflow parses again and again."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import Result, at_most, noise

if TYPE_CHECKING:
    from collections.abc import Iterator

MILLISECONDS = 30.0

# A process of its own each time: nothing is imported twice in one.
IMPORTS = """
import json, sys, time
started = time.perf_counter()
import airflow.sdk
airflow_there = time.perf_counter()
import airflow_ray.decorators, airflow_ray.sensors.object
import airflow_ray.operators.python, airflow_ray.operators.release, airflow_ray.operators.tune
ended = time.perf_counter()
print(json.dumps([airflow_there - started, ended - airflow_there, "ray" in sys.modules]))
"""


def run(repeats: int) -> Iterator[Result]:
    """Yield the time that the imports take, next to that of Airflow's own, and whether they load Ray."""
    imports = [_imported() for _ in range(repeats + 1)][1:]
    airflow, added = ([1000 * seconds for seconds in column] for column in list(zip(*imports, strict=True))[:2])
    yield Result("parsing: import airflow.sdk", statistics.median(airflow), "ms", noise=noise(airflow))
    yield Result(
        "parsing: added by airflow_ray",
        statistics.median(added),
        "ms",
        noise=noise(added),
        target=at_most(MILLISECONDS),
    )
    loaded = sum(bool(each[2]) for each in imports)
    yield Result("parsing: imports that load ray", loaded, "imports", target=at_most(0))


def _imported() -> list[float]:
    finished = subprocess.run([sys.executable, "-c", IMPORTS], stdout=subprocess.PIPE, text=True, check=True)
    figures: list[float] = json.loads(finished.stdout.splitlines()[-1])
    return figures
