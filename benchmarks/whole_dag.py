"""A pipeline of three tasks under a real scheduler, next to the same one whose plain tasks call Ray Client."""

from __future__ import annotations

import statistics
import tempfile
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import REPEATS, Result, at_most, in_turns, noise
from benchmarks.servers import ray_head
from tools.s3_server import REGION, S3Server
from tools.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAGS = Path(__file__).parent / "dags"
OURS, PLAIN = "by_ray_tasks", "by_plain_tasks"
STORE_BYTES = 6_000_000_000
RUN_SECONDS = 400.0
# A run with so large a frame takes minutes: one has to do.
LARGE_MEGABYTES = 100


def run(megabytes: dict[float, float], repeats: int = REPEATS) -> Iterator[Result]:
    """Yield for each size of the frame how long a run takes, from the start of its first task to the end of its last.

    :param megabytes: sizes of the frame, and what ours is to take at most of the time of the plain tasks.
    """
    server = S3Server()
    try:
        with ray_head(STORE_BYTES, with_gateway=True) as head, tempfile.TemporaryDirectory(prefix="airflow-") as home:
            location = f"{server.new_bucket()}?scheme=http&endpoint_override=127.0.0.1:{server.port}&region={REGION}"
            environment = {
                "AIRFLOW_CONN_RAY_DEFAULT": head.gateway_uri,
                "BENCHMARK_RAY_ADDRESS": head.client_uri,
                "BENCHMARK_S3_URI": f"s3://test-access-key:test-secret-key@{location}",
            }
            with StandaloneAirflow(Path(home), DAGS, environment) as airflow:
                for size, bound in megabytes.items():
                    yield _of_size(airflow, size, bound, repeats)
    finally:
        server.stop()


def _of_size(airflow: StandaloneAirflow, megabytes: float, bound: float, repeats: int) -> Result:
    runs: dict[str, Callable[[], float]] = {name: partial(_seconds, airflow, name, megabytes) for name in (PLAIN, OURS)}
    repeats = repeats if megabytes < LARGE_MEGABYTES else 1
    seconds = in_turns(runs, repeats, warm_up=False, slow_seconds=RUN_SECONDS)
    plain, ours = (statistics.median(seconds[name]) for name in (PLAIN, OURS))
    once = ", one run each" if len(seconds[PLAIN]) == 1 else ""
    title = f"DAG of 3 tasks with {megabytes:g} MB, against plain tasks with Ray Client{once}"
    return Result(title, ours, "s", plain, noise(seconds[OURS]), at_most(bound))


def _seconds(airflow: StandaloneAirflow, dag_id: str, megabytes: float) -> float:
    run_id = airflow.trigger(dag_id, {"megabytes": megabytes})
    if airflow.wait(dag_id, run_id, RUN_SECONDS) != "success":
        failed = next(each for each in airflow.task_instances(dag_id, run_id) if each["state"] == "failed")
        raise RuntimeError(airflow.log(dag_id, run_id, failed["task_id"]))
    tasks = airflow.task_instances(dag_id, run_id)
    started = min(datetime.fromisoformat(each["start_date"]) for each in tasks)
    ended = max(datetime.fromisoformat(each["end_date"]) for each in tasks)
    return (ended - started).total_seconds()
