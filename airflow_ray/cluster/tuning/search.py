"""A hyper-parameter search with Ray Tune, as the work of one Airflow task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.nodes import nodes_without
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.tuning.experiment import has_state, open_experiment
from airflow_ray.cluster.tuning.progress import print_table
from airflow_ray.cluster.tuning.results import (
    best_result,
    checkpoint_of,
    fit,
    histories,
    load_checkpoint,
    metrics_of,
    plain_json,
    table_of,
)
from airflow_ray.cluster.tuning.trainable import prepare_trainable
from airflow_ray.cluster.tuning.tuner import new_tuner, restored_tuner

if TYPE_CHECKING:
    from airflow_ray.cluster.tuning.order import Search
    from airflow_ray.cluster.worker.context import RunContext


# Between two looks at the nodes.
NODES_SECONDS = 2.0
_BUNDLES = {"cpu": "CPU", "gpu": "GPU"}


def search(context: RunContext, order: Search) -> dict[str, Any]:
    """Search, or go on with an earlier search in the same place, and return what came of it.

    Ray keeps the data of a search for as long as this process, which is to end with it.

    :param context: of the process that it runs in.
    :param order: what to search for, and where.
    :returns: ``summary``, plain JSON; ``trials``, a DataFrame with a row for each; ``best_object``, what the best
        checkpoint holds, if asked for; ``history``, for each trial its number of iterations and values of the metric.
    :raises WorkFailure: there is no result, or never will be.
    """
    started = time.monotonic()
    resources = order["resources_per_trial"]
    if resources:
        _await_resources(resources, order["scheduling_timeout"] or 0.0)
    experiment = open_experiment(context, order["folder"], order["name"])
    trainable = prepare_trainable(order, context.sources, experiment)
    metric, mode = order["metric"], order["mode"]
    if has_state(experiment):
        print(f"Going on with the search in {experiment.address(experiment.path)}")
        tuner = restored_tuner(order, trainable, experiment)
    else:
        print(f"The state of the search is in {experiment.address(experiment.path)}")
        tuner = new_tuner(order, trainable, experiment)
    results = fit(tuner, metric)
    best = best_result(results, metric, mode)
    checkpoint = checkpoint_of(best, experiment)
    where = checkpoint and experiment.address(checkpoint.path)
    outputs = {
        "summary": {
            "best_config": plain_json(best.config),
            "best_metrics": metrics_of(best),
            "best_trial": best.metrics["trial_id"],
            "best_checkpoint": where,
            "trials": len(results),
            "errors": results.num_errors,
            "experiment": experiment.address(experiment.path),
            "seconds": time.monotonic() - started,
        },
        "trials": table_of(results),
    }
    if order["load_best_checkpoint"]:
        outputs["best_object"] = load_checkpoint(checkpoint, order["load_best_checkpoint"])
    if order["with_history"]:
        outputs["history"] = dict(histories(results, metric))
    print_table(outputs["trials"], metric, mode)
    return outputs


def _await_resources(resources: dict[str, float], timeout: float) -> None:
    """Return when a node has what a trial asks for: Ray Tune would wait for one without end."""
    asked = {_BUNDLES.get(name.lower(), name): amount for name, amount in resources.items() if amount}
    deadline = time.monotonic() + timeout
    while (nodes := nodes_without(asked)) is not None:
        if time.monotonic() >= deadline:
            raise WorkFailure(FailureKind.TRIAL_INFEASIBLE, asked=asked, nodes=nodes)
        time.sleep(min(NODES_SECONDS, timeout))
