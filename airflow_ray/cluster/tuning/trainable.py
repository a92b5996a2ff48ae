"""The user's trainable, with what it needs in the process of a trial."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.worker.notebook_calls import let_notebooks_call_init
from airflow_ray.cluster.worker.user_modules import importable

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.protocol import Sources
    from airflow_ray.cluster.tuning.experiment import Experiment
    from airflow_ray.cluster.tuning.order import Search


def prepare_trainable(order: Search, sources: Sources, experiment: Experiment) -> Any:
    """Return the trainable with its modules, its data and what it reserves; that is a CPU where nothing is said."""
    from ray import tune

    trainable = order["trainable"]
    if not callable(trainable):
        trainable = _trainer_function(trainable, experiment)
    trainable = _portable(trainable, sources)
    if order["data"]:
        trainable = tune.with_parameters(trainable, **order["data"])
    if order["resources_per_trial"]:
        trainable = tune.with_resources(trainable, order["resources_per_trial"])
    return trainable


def _portable(trainable: Any, sources: Sources) -> Any:
    """Return a trainable that brings the user's own modules along to the processes of the trials."""
    from ray import cloudpickle

    name = _name_for_ray(trainable)
    if isinstance(trainable, type):
        return trainable if name == trainable.__name__ else type(name, (trainable,), {})
    pickled = cloudpickle.dumps(trainable)

    def trial(config: dict[str, Any], **data: Any) -> Any:
        let_notebooks_call_init()
        with importable(sources):
            return cloudpickle.loads(pickled)(config, **data)

    # Ray restores a search only with a trainable of the same name.
    trial.__name__ = name
    # What tune.with_resources has said.
    if hasattr(trainable, "_resources"):
        trial._resources = trainable._resources  # type: ignore[attr-defined]
    return trial


def _name_for_ray(trainable: Any) -> str:
    """Return the name of a trainable, in the letters that Ray takes."""
    name: str = getattr(trainable, "__name__", type(trainable).__name__)
    return name.encode("ascii", "backslashreplace").decode().replace("\\", "_")


def _trainer_function(trainer: Any, experiment: Experiment) -> Callable[[dict[str, Any]], None]:
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
        copied_trainer = DataParallelTrainer(
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
        copied_trainer.fit()

    return fit_trainer
