"""What a search costs as an Airflow task, next to Ray Tune by itself on the same cluster."""

from __future__ import annotations

import statistics
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.tune import RayTuneOperator
from benchmarks.measure import Result, all_timed, in_turns, noise
from benchmarks.servers import DRIVER, ray_head
from benchmarks.task_instance import context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Each search takes some seconds.
SLOW_SECONDS = 60.0


def run(trials: int, repeats: int) -> Iterator[Result]:
    """Yield the result for searches of so many short trials, on as many CPUs as this machine has."""
    with ray_head(), tempfile.TemporaryDirectory() as folder, RayHook(DRIVER).connect():
        contestants: dict[str, Callable[[], object]] = {
            "bare": lambda: _search_by_hand(Path(folder), trials),
            "operator": lambda: _search_by_operator(Path(folder), trials),
        }
        seconds = in_turns(all_timed(contestants), repeats, slow_seconds=SLOW_SECONDS)
    bare, operator = (statistics.median(seconds[name]) for name in contestants)
    yield Result(f"search of {trials} short trials", operator, "s", bare, noise(seconds["operator"]))


def _trial(config: dict[str, Any]) -> None:
    from ray import tune

    tune.report({"loss": config["x"]})


def _search_by_hand(folder: Path, trials: int) -> None:
    from ray import tune

    tuner = tune.Tuner(
        _trial,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials),
        run_config=tune.RunConfig(name=uuid.uuid4().hex, storage_path=str(folder), verbose=0),
    )
    tuner.fit().get_best_result()


def _search_by_operator(folder: Path, trials: int) -> None:
    operator = RayTuneOperator(
        task_id="tune",
        trainable=_trial,
        param_space={"x": {"uniform": [0, 1]}},
        metric="loss",
        mode="min",
        num_samples=trials,
        storage_path=str(folder),
        ray_conn_id=DRIVER,
    )
    operator.execute(context_of("tune"))
