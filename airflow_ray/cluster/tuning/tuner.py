"""Ray Tune's tuner for a search, new or restored."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.tuning import space
from airflow_ray.cluster.tuning.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.tuning.experiment import Experiment
    from airflow_ray.cluster.tuning.order import Search


# Of the whole search, at most this share goes into writing down its state after trials that ended.
SNAPSHOT_SHARE = 0.2
# Ray's own name is not what its users call it.
_SCHEDULERS = {"asha": "async_hyperband"}


def new_tuner(order: Search, trainable: Any, experiment: Experiment) -> Any:
    """Return a tuner that begins a search."""
    from ray import tune

    callbacks = order["callbacks"]
    users_callbacks = callbacks() if callable(callbacks) else callbacks
    return tune.Tuner(
        trainable,
        param_space=space.build(order["param_space"]),
        tune_config=tune.TuneConfig(
            metric=order["metric"],
            mode=order["mode"],
            num_samples=order["num_samples"],
            scheduler=_with_snapshots(_algorithm(order["scheduler"] or "fifo", tune.create_scheduler)),
            search_alg=_algorithm(order["search_alg"], tune.create_searcher),
            max_concurrent_trials=order["max_concurrent_trials"],
            time_budget_s=order["time_budget_s"],
        ),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=experiment.parent,
            storage_filesystem=experiment.filesystem,
            callbacks=[*users_callbacks, _progress_callback(order["metric"], order["mode"])],
            stop=order["stop"],
            verbose=0,
        ),
    )


def restored_tuner(order: Search, trainable: Any, experiment: Experiment) -> Any:
    """Return a tuner that goes on with an earlier search."""
    from ray import tune

    return tune.Tuner.restore(
        experiment.path,
        trainable,
        resume_unfinished=True,
        resume_errored=True,
        param_space=space.build(order["param_space"]),
        storage_filesystem=experiment.filesystem,
    )


def _algorithm(choice: Any, create: Callable[..., Any]) -> Any:
    """Return a scheduler or search algorithm: as given, or by its name, or as a name with its arguments."""
    if choice is None or not isinstance(choice, (str, dict)):
        return choice
    from ray import tune

    ((name, given),) = choice.items() if isinstance(choice, dict) else ((choice, {}),)
    # Population based training takes search spaces.
    arguments = space.build(given)
    try:
        algorithm = create(_SCHEDULERS.get(name, name), **arguments)
        # Ray leaves out what it does not know.
        inspect.signature(type(algorithm).__init__).bind_partial(algorithm, **arguments)
        return algorithm
    # What the libraries behind them raise for an argument that they do not take.
    except (AssertionError, ImportError, TypeError, ValueError, tune.TuneError) as error:
        raise WorkFailure(FailureKind.TUNE_OPTION, name=name, message=str(error)) from error


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
