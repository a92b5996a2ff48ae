"""What came of a search, as plain data and tables."""

from __future__ import annotations

import math
import os
import traceback
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.tuning.progress import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.cluster.tuning.experiment import Experiment


_BOOSTER_FILES = ("model.ubj", "model.json")
_REPR_CHARACTERS = 200
# Beside those that it lists itself.
_FURTHER_KEYS_OF_RAY = ("experiment_tag", "should_checkpoint", "time_total", "__duplicate__")


def fit(tuner: Any, metric: str) -> Any:
    """Return the results of all trials, at least one of which has got somewhere."""
    from ray import tune

    try:
        results = tuner.fit()
    except tune.TuneError as error:
        # The first report without it ends the search.
        if (report := _refused_report(error)) is not None:
            raise _no_metric(metric, [report]) from error
        raise
    errors = [each.error for each in results if each.error is not None]
    if not len(results):
        raise WorkFailure(FailureKind.TUNE_NO_TRIALS)
    if len(errors) == len(results):
        first = error_text(errors[0])
        alike = sum(error_text(error).splitlines()[-1] == first.splitlines()[-1] for error in errors)
        raise WorkFailure(FailureKind.TUNE_TRIALS_FAILED, traceback=first, alike=alike, trials=len(results))
    return results


def best_result(results: Any, metric: str, mode: str) -> Any:
    """Return the result of the best trial.

    :raises WorkFailure: none has reported the metric as a number.
    """
    reports = [each.metrics or {} for each in results]
    try:
        best = results.get_best_result(metric, mode)
    except RuntimeError as error:
        raise _no_metric(metric, reports) from error
    if not isinstance(metrics_of(best).get(metric), (int, float)):
        raise _no_metric(metric, reports)
    return best


def _refused_report(error: BaseException | None) -> dict[str, Any] | None:
    """Return the report that Ray Tune has ended the search for, since the metric is not in it; it keeps none."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name == "_validate_result_metrics":
                report: dict[str, Any] = frame.f_locals["result"]
                return report
        error = error.__context__
    return None


def _no_metric(metric: str, reports: list[dict[str, Any]]) -> WorkFailure:
    """Return the failure of a search whose trials have reported other metrics, or the metric as no number."""
    from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS, DONE
    from ray.tune.utils import flatten_dict

    of_ray = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, DONE, *_FURTHER_KEYS_OF_RAY}
    # What was nested has / in its name, as Ray Tune has it.
    flat = [flatten_dict(report) for report in reports]
    told = dict.fromkeys(name for report in flat for name in report)
    names = [name for name in told if name.partition("/")[0] not in of_ray]
    if metric in names:
        values = ", ".join(dict.fromkeys(str(plain_json(report[metric])) for report in flat if metric in report))
        message = f"the last reports of it were {values}"
    else:
        message = f"reported were {', '.join(names)}" if names else "nothing was reported"
    return WorkFailure(FailureKind.TUNE_METRIC, metric=metric, message=message)


def checkpoint_of(best: Any, experiment: Experiment) -> Any:
    """Return the last checkpoint of a trial, or None; one of a trainer of Ray Train is told among the metrics."""
    from ray import tune

    path = best.metrics.get("checkpoint_path")
    if best.checkpoint is None and isinstance(path, str):
        return tune.Checkpoint(path, filesystem=experiment.filesystem if path.startswith(experiment.parent) else None)
    return best.checkpoint


def metrics_of(result: Any) -> dict[str, Any]:
    """Return what a trial reported last as plain data, what was nested with ``/`` in its name, as Ray Tune has it."""
    from ray.tune.utils import flatten_dict

    metrics = {key: value for key, value in (result.metrics or {}).items() if key != "config"}
    return {key: plain_json(value) for key, value in flatten_dict(metrics).items()}


def table_of(results: Any) -> Any:
    """Return a DataFrame with a row for each trial: how it ended, what it reported last, its configuration."""
    import pandas as pd

    return pd.DataFrame([_row(each) for each in results])


def _row(result: Any) -> dict[str, Any]:
    from ray.tune.utils import flatten_dict

    metrics = metrics_of(result)
    row = {"trial_id": metrics.pop("trial_id", os.path.basename(result.path))}
    row["trial_error"] = None if result.error is None else error_text(result.error).splitlines()[-1]
    row |= {name: value for name, value in metrics.items() if value is None or isinstance(value, (int, float, str))}
    return row | {name: plain_json(value) for name, value in flatten_dict({"config": result.config or {}}).items()}


def histories(results: Any, metric: str) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Yield for each trial its iterations and what the metric was after each."""
    for each in results:
        frame = each.metrics_dataframe
        if frame is not None and metric in frame:
            curve = {"iteration": frame["training_iteration"].tolist(), "value": frame[metric].tolist()}
            yield str(each.metrics["trial_id"]), curve


def load_checkpoint(checkpoint: Any, load: bool | Callable[[str], Any]) -> Any:
    """Return what a checkpoint holds."""
    if checkpoint is None:
        raise WorkFailure(FailureKind.TUNE_CHECKPOINT, message="the best trial has none")
    with checkpoint.as_directory() as folder:
        return load(folder) if callable(load) else _booster(folder)


def _booster(folder: str) -> Any:
    names = sorted(os.listdir(folder))
    for name in _BOOSTER_FILES:
        if name in names:
            import xgboost

            return xgboost.Booster(model_file=os.path.join(folder, name))
    raise WorkFailure(
        FailureKind.TUNE_CHECKPOINT, message=f"it holds {', '.join(names) or 'no file'}, and no XGBoost model"
    )


def plain_json(value: Any) -> Any:
    """Return ``value`` as JSON holds it; what it cannot hold as a text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    return repr(value)[:_REPR_CHARACTERS]
