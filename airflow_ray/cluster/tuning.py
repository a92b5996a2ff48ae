"""A hyper-parameter search with Ray Tune, as the work of one Airflow task."""

from __future__ import annotations

import copy
import inspect
import math
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from airflow_ray.cluster import search_space
from airflow_ray.cluster.scheduling import nodes_without
from airflow_ray.cluster.tuning_progress import Progress, error_text, print_table
from airflow_ray.cluster.user_modules import importable
from airflow_ray.cluster.work import WorkFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_ray.cluster.work import Work

# Of the whole search, at most this share goes into writing down its state after trials that ended.
SNAPSHOT_SHARE = 0.2
# Between two looks at the nodes.
NODES_SECONDS = 2.0
# Ray's own name is not what its users call it.
_SCHEDULERS = {"asha": "async_hyperband"}
_BUNDLES = {"cpu": "CPU", "gpu": "GPU"}
_BOOSTER_FILES = ("model.ubj", "model.json")
_REPR_CHARACTERS = 200


class _Experiment(NamedTuple):
    """Where the state of a search lies: file system, folder around it, own name, and the folder's address."""

    filesystem: Any
    parent: str
    name: str
    parent_address: str

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"

    def address(self, path: str) -> str:
        """Return the address of a path in the file system."""
        inside = path.startswith(self.parent)
        return self.parent_address + path.removeprefix(self.parent) if inside else path


class Search(TypedDict):
    """What a search is of: a dict, since the cluster does not have this package.

    :param trainable: the user's function, class or trainer.
    :param data: further arguments for it.
    :param param_space: constants and search spaces, see :mod:`airflow_ray.cluster.search_space`.
    :param folder: where under the work's storage the experiment lies.
    :param name: of the experiment; the same for each try that may go on with it.
    :param scheduling_timeout: seconds to wait for a node that is large enough for a trial; None for not at all.
    :param with_history: also return the learning curves.

    The others are as Ray Tune's ``TuneConfig`` and ``RunConfig`` have them.
    """

    trainable: Any
    data: dict[str, Any]
    param_space: dict[str, Any]
    folder: str
    name: str
    metric: str
    mode: str
    num_samples: int
    scheduler: Any
    search_alg: Any
    resources_per_trial: dict[str, float] | None
    scheduling_timeout: float | None
    max_concurrent_trials: int | None
    time_budget_s: float | None
    stop: Any
    callbacks: Sequence[Any] | Callable[[], Sequence[Any]]
    load_best_checkpoint: bool | Callable[[str], Any]
    with_history: bool


def search(work: Work, wanted: Search) -> dict[str, Any]:
    """Search, or go on with an earlier search in the same place, and return what came of it.

    Ray keeps the data of a search for as long as this process, which is to end with it.

    :param work: the work that this is.
    :returns: ``summary``, plain JSON; ``trials``, a DataFrame with a row for each; ``best_object``, what the best
        checkpoint holds, if asked for; ``history``, for each trial its number of iterations and values of the metric.
    :raises WorkFailure: there is no result, or never will be.
    """
    started = time.monotonic()
    resources = wanted["resources_per_trial"]
    if resources:
        _await_resources(resources, wanted["scheduling_timeout"] or 0.0)
    experiment = _opened(work, wanted["folder"], wanted["name"])
    trainable = _prepared(wanted, work.sources, experiment)
    metric, mode = wanted["metric"], wanted["mode"]
    if _has_state(experiment):
        print(f"Going on with the search in {experiment.address(experiment.path)}")
        tuner = _restored_tuner(wanted, trainable, experiment)
    else:
        print(f"The state of the search is in {experiment.address(experiment.path)}")
        tuner = _new_tuner(wanted, trainable, experiment)
    results = _fitted(tuner, metric)
    best = _best(results, metric, mode)
    checkpoint = _checkpoint_of(best, experiment)
    where = checkpoint and experiment.address(checkpoint.path)
    outputs = {
        "summary": {
            "best_config": _plain(best.config),
            "best_metrics": _metrics(best),
            "best_trial": best.metrics["trial_id"],
            "best_checkpoint": where,
            "trials": len(results),
            "errors": results.num_errors,
            "experiment": experiment.address(experiment.path),
            "seconds": time.monotonic() - started,
        },
        "trials": _table(results),
    }
    if wanted["load_best_checkpoint"]:
        outputs["best_object"] = _loaded(checkpoint, wanted["load_best_checkpoint"])
    if wanted["with_history"]:
        outputs["history"] = dict(_histories(results, metric))
    print_table(outputs["trials"], metric, mode)
    return outputs


def _prepared(wanted: Search, sources: dict[str, tuple[str, str]], experiment: _Experiment) -> Any:
    """Return the trainable with its modules, its data and what it reserves; that is a CPU where nothing is said."""
    from ray import tune

    trainable = wanted["trainable"]
    if not callable(trainable):
        trainable = _trainer_function(trainable, experiment)
    trainable = _portable(trainable, sources)
    if wanted["data"]:
        trainable = tune.with_parameters(trainable, **wanted["data"])
    if wanted["resources_per_trial"]:
        trainable = tune.with_resources(trainable, wanted["resources_per_trial"])
    return trainable


def _new_tuner(wanted: Search, trainable: Any, experiment: _Experiment) -> Any:
    from ray import tune

    callbacks = wanted["callbacks"]
    made = callbacks() if callable(callbacks) else callbacks
    return tune.Tuner(
        trainable,
        param_space=search_space.built(wanted["param_space"]),
        tune_config=tune.TuneConfig(
            metric=wanted["metric"],
            mode=wanted["mode"],
            num_samples=wanted["num_samples"],
            scheduler=_with_snapshots(_made(wanted["scheduler"] or "fifo", tune.create_scheduler)),
            search_alg=_made(wanted["search_alg"], tune.create_searcher),
            max_concurrent_trials=wanted["max_concurrent_trials"],
            time_budget_s=wanted["time_budget_s"],
        ),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=experiment.parent,
            storage_filesystem=experiment.filesystem,
            callbacks=[*made, _progress_callback(wanted["metric"], wanted["mode"])],
            stop=wanted["stop"],
            verbose=0,
        ),
    )


def _restored_tuner(wanted: Search, trainable: Any, experiment: _Experiment) -> Any:
    from ray import tune

    return tune.Tuner.restore(
        experiment.path,
        trainable,
        resume_unfinished=True,
        resume_errored=True,
        param_space=search_space.built(wanted["param_space"]),
        storage_filesystem=experiment.filesystem,
    )


def _await_resources(resources: dict[str, float], timeout: float) -> None:
    """Return when a node has what a trial asks for: Ray Tune would wait for one without end."""
    asked = {_BUNDLES.get(name.lower(), name): amount for name, amount in resources.items() if amount}
    deadline = time.monotonic() + timeout
    while (nodes := nodes_without(asked)) is not None:
        if time.monotonic() >= deadline:
            raise WorkFailure(kind="trial_infeasible", asked=asked, nodes=nodes)
        time.sleep(min(NODES_SECONDS, timeout))


def _opened(work: Work, folder: str, name: str) -> _Experiment:
    """Return where the experiment lies, when it is sure that it can be written there."""
    from pyarrow import fs

    filesystem, root, address = work.storage() or _local_storage()
    parent = f"{root}/{folder}"
    experiment = _Experiment(filesystem, parent, name, f"{address.rstrip('/')}/{folder}")
    probe = f"{experiment.path}/writable"
    try:
        filesystem.create_dir(experiment.path, recursive=True)
        with filesystem.open_output_stream(probe) as stream:
            stream.write(b"yes")
        if filesystem.get_file_info([probe])[0].type != fs.FileType.File:
            raise FileNotFoundError("what was written is not there")
        filesystem.delete_file(probe)
    except OSError as error:
        raise WorkFailure(kind="tune_storage", where=experiment.address(experiment.path), message=str(error)) from error
    return experiment


def _local_storage() -> tuple[Any, str, str]:
    from pyarrow import fs

    root = os.path.expanduser("~/ray_results")
    return fs.LocalFileSystem(), root, f"file://{root}"


def _has_state(experiment: _Experiment) -> bool:
    """Whether an earlier search has got so far that it can go on; a try may end before it has written anything."""
    from pyarrow import fs

    found = experiment.filesystem.get_file_info(fs.FileSelector(experiment.path, allow_not_found=True))
    return any(info.base_name.startswith("experiment_state") for info in found)


def _portable(trainable: Any, sources: dict[str, tuple[str, str]]) -> Any:
    """Return a trainable that brings the user's own modules along to the processes of the trials."""
    from ray import cloudpickle

    if isinstance(trainable, type):
        return trainable
    pickled = cloudpickle.dumps(trainable)

    def trial(config: dict[str, Any], **data: Any) -> Any:
        with importable(sources):
            return cloudpickle.loads(pickled)(config, **data)

    # Ray restores a search only with a trainable of the same name.
    trial.__name__ = getattr(trainable, "__name__", type(trainable).__name__)
    # What tune.with_resources has said.
    if hasattr(trainable, "_resources"):
        trial._resources = trainable._resources  # type: ignore[attr-defined]
    return trial


def _trainer_function(trainer: Any, experiment: _Experiment) -> Callable[[dict[str, Any]], None]:
    """Return a trainable that fits a copy of a trainer of Ray Train, its loop configured by the trial."""
    filesystem, folder = trainer.run_config.storage_filesystem, trainer.run_config.storage_path
    if filesystem is None:
        filesystem, folder = experiment.filesystem, experiment.path

    def fit_trainer(config: dict[str, Any]) -> None:
        from ray import train, tune
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        context = tune.get_context()
        # What the trainers of the frameworks add to it is in the configuration of their backend.
        fitted = DataParallelTrainer(
            trainer.train_loop_per_worker,
            train_loop_config={**(trainer.train_loop_config or {}), **config},
            backend_config=trainer.backend_config,
            scaling_config=trainer.scaling_config,
            datasets=trainer.datasets,
            dataset_config=trainer.data_config,
            run_config=train.RunConfig(
                name=f"train-{context.get_trial_id()}",
                storage_path=folder,
                storage_filesystem=filesystem,
                failure_config=copy.copy(trainer.run_config.failure_config),
                checkpoint_config=copy.copy(trainer.run_config.checkpoint_config),
                callbacks=[*(trainer.run_config.callbacks or []), TuneReportCallback()],
            ),
        )
        fitted.fit()

    return fit_trainer


def _made(wanted: Any, create: Callable[..., Any]) -> Any:
    """Return a scheduler or search algorithm: as given, or by its name, or as a name with its arguments."""
    if wanted is None or not isinstance(wanted, (str, dict)):
        return wanted
    from ray import tune

    ((name, given),) = wanted.items() if isinstance(wanted, dict) else ((wanted, {}),)
    # Population based training takes search spaces.
    arguments = search_space.built(given)
    try:
        made = create(_SCHEDULERS.get(name, name), **arguments)
        # Ray leaves out what it does not know.
        inspect.signature(type(made).__init__).bind_partial(made, **arguments)
        return made
    # What the libraries behind them raise for an argument that they do not take.
    except (AssertionError, ImportError, TypeError, ValueError, tune.TuneError) as error:
        raise WorkFailure(kind="tune_option", name=name, message=str(error)) from error


def _with_snapshots(scheduler: Any) -> Any:
    """Let ``scheduler`` have the state of the search written down when a trial has ended.

    Ray does that every ten seconds at most: of what ended since, a restored search would know nothing.
    """
    scheduler.choose_trial_to_run = _Snapshots(scheduler.choose_trial_to_run)
    return scheduler


class _Snapshots:
    """Stands before ``choose_trial_to_run``, which a search calls with its controller at each step."""

    def __init__(self, choose: Callable[..., Any]) -> None:
        self._choose = choose
        self._ended = 0
        self._not_before = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # The clock of another process tells another time.
        return {**self.__dict__, "_not_before": 0.0}

    def __call__(self, wrapped_controller: Any, **arguments: Any) -> Any:
        controller = getattr(wrapped_controller, "_tune_controller", wrapped_controller)
        ended = sum(trial.is_finished() for trial in controller.get_trials())
        begun = time.monotonic()
        if ended != self._ended and begun >= self._not_before:
            self._ended = ended
            controller.checkpoint(force=True, wait=True)
            took = time.monotonic() - begun
            self._not_before = begun + took / SNAPSHOT_SHARE
        return self._choose(wrapped_controller, **arguments)


def _progress_callback(metric: str, mode: str) -> Any:
    from ray import tune

    class ProgressCallback(tune.Callback):  # type: ignore[misc]  # ray.tune has no types
        def __init__(self, progress: Progress) -> None:
            self._progress = progress

        def setup(self, **info: Any) -> None:
            self._progress.begin(info.get("total_num_samples"))

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self._progress.tell(trials)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._progress.tell_error(trial)

    return ProgressCallback(Progress(metric, mode))


def _fitted(tuner: Any, metric: str) -> Any:
    """Return the results of all trials, at least one of which has got somewhere."""
    from ray import tune

    try:
        results = tuner.fit()
    except tune.TuneError as error:
        # The first report without it ends the search.
        if "did not include the specified metric" in str(error):
            message = str(error).strip().splitlines()[-1]
            raise WorkFailure(kind="tune_metric", metric=metric, message=message) from error
        raise
    errors = [each.error for each in results if each.error is not None]
    if not len(results):
        raise WorkFailure(kind="tune_no_trials")
    if len(errors) == len(results):
        first = error_text(errors[0])
        alike = sum(error_text(error).splitlines()[-1] == first.splitlines()[-1] for error in errors)
        raise WorkFailure(kind="tune_trials_failed", traceback=first, alike=alike, trials=len(results))
    return results


def _best(results: Any, metric: str, mode: str) -> Any:
    try:
        best = results.get_best_result(metric, mode)
    except RuntimeError as error:
        raise WorkFailure(kind="tune_metric", metric=metric, message=str(error)) from error
    if not isinstance(_metrics(best).get(metric), (int, float)):
        raise WorkFailure(kind="tune_metric", metric=metric, message=f"the last report was {best.metrics}")
    return best


def _checkpoint_of(best: Any, experiment: _Experiment) -> Any:
    """Return the last checkpoint of a trial, or None; one of a trainer of Ray Train is told among the metrics."""
    from ray import tune

    path = best.metrics.get("checkpoint_path")
    if best.checkpoint is None and isinstance(path, str):
        return tune.Checkpoint(path, filesystem=experiment.filesystem if path.startswith(experiment.parent) else None)
    return best.checkpoint


def _metrics(result: Any) -> dict[str, Any]:
    """Return what a trial reported last as plain data, what was nested with ``/`` in its name, as Ray Tune has it."""
    from ray.tune.utils import flatten_dict

    metrics = {key: value for key, value in (result.metrics or {}).items() if key != "config"}
    return {key: _plain(value) for key, value in flatten_dict(metrics).items()}


def _table(results: Any) -> Any:
    """Return a DataFrame with a row for each trial: how it ended, what it reported last, its configuration."""
    import pandas as pd

    return pd.DataFrame([_row(each) for each in results])


def _row(result: Any) -> dict[str, Any]:
    metrics = _metrics(result)
    row = {"trial_id": metrics.pop("trial_id", os.path.basename(result.path))}
    row["trial_error"] = None if result.error is None else error_text(result.error).splitlines()[-1]
    row |= {name: value for name, value in metrics.items() if value is None or isinstance(value, (int, float, str))}
    return row | {f"config/{name}": value for name, value in _flat(result.config or {})}


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", _plain(value)


def _histories(results: Any, metric: str) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Yield for each trial its iterations and what the metric was after each."""
    for each in results:
        frame = each.metrics_dataframe
        if frame is not None and metric in frame:
            curve = {"iteration": frame["training_iteration"].tolist(), "value": frame[metric].tolist()}
            yield str(each.metrics["trial_id"]), curve


def _loaded(checkpoint: Any, load: bool | Callable[[str], Any]) -> Any:
    """Return what a checkpoint holds."""
    if checkpoint is None:
        raise WorkFailure(kind="tune_checkpoint", message="the best trial has none")
    with checkpoint.as_directory() as folder:
        return load(folder) if callable(load) else _booster(folder)


def _booster(folder: str) -> Any:
    names = sorted(os.listdir(folder))
    for name in _BOOSTER_FILES:
        if name in names:
            import xgboost

            return xgboost.Booster(model_file=os.path.join(folder, name))
    raise WorkFailure(kind="tune_checkpoint", message=f"it holds {', '.join(names) or 'no file'}, and no XGBoost model")


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON holds it; what it cannot hold as a text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return repr(value)[:_REPR_CHARACTERS]
