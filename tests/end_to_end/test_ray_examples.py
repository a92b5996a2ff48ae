"""Ray's own examples for Ray Tune: whole, as the work of a task, and their trainables in a search of this package."""

from __future__ import annotations

import importlib
import os

import pytest

from airflow_ray.decorators import ray_task
from airflow_ray.operators.tune import RayTuneOperator
from tests.dag_runs import new_dag, run_dag

pytestmark = pytest.mark.usefixtures("database")

UNIFORM = {"width": {"uniform": [1, 20]}, "height": {"uniform": [-100, 100]}}
OPTUNA = {"steps": 3, "activation": "relu", **UNIFORM}
BREAST_CANCER = {"objective": "binary:logistic", "eval_metric": ["logloss", "error"], "eta": {"uniform": [0.01, 0.1]}}
LIGHTGBM = {"objective": "binary", "metric": ["binary_error", "binary_logloss"], "verbose": -1}

# Of each example: its trainable, the metric of that and what is best, and a space to search.
TRAINABLES = {
    "tune_basic_example": ("easy_objective", "mean_loss", "min", {"steps": 3, **UNIFORM}),
    "async_hyperband_example": ("easy_objective", "mean_loss", "min", {"steps": 3, **UNIFORM}),
    "hyperband_function_example": ("train_func", "episode_reward_mean", "max", {"height": {"uniform": [0, 100]}}),
    "optuna_example": ("easy_objective", "mean_loss", "min", OPTUNA),
    "optuna_define_by_run_example": ("easy_objective", "mean_loss", "min", OPTUNA),
    "optuna_multiobjective_example": ("easy_objective", "loss", "min", {"steps": 3, **UNIFORM}),
    "custom_func_checkpointing": ("train_func", "mean_loss", "min", UNIFORM),
    "pbt_function": ("pbt_function", "mean_accuracy", "max", {"lr": {"uniform": [0.0001, 0.02]}}),
    "logging_example": ("easy_objective", "mean_loss", "min", {"steps": 3, **UNIFORM}),
    "xgboost_example": ("train_breast_cancer", "test-logloss", "min", BREAST_CANCER),
    "lightgbm_example": ("train_breast_cancer", "binary_error", "min", LIGHTGBM),
}
NEEDED = {"lightgbm_example": "lightgbm", "xgboost_example": "xgboost"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLES)
def test_example_runs_whole_in_a_task(head, name):
    pytest.importorskip(NEEDED.get(name, "ray"))

    @ray_task(result="value", num_cpus=0)
    def example(name):
        import runpy
        import sys

        sys.argv = [name, "--smoke-test"]
        return runpy.run_module(f"ray.tune.examples.{name}", run_name="__main__", alter_sys=True)["__name__"]

    with new_dag(params={}) as dag:
        example(name)
    assert run_dag(dag).xcom("example") == "__main__"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLES)
def test_trainable_of_an_example_is_searched(head, name):
    pytest.importorskip(NEEDED.get(name, "ray"))
    module = importlib.import_module(f"ray.tune.examples.{name}")
    function, metric, mode, space = TRAINABLES[name]
    with new_dag(params={}) as dag:
        RayTuneOperator(
            task_id="tune",
            trainable=getattr(module, function),
            param_space=space,
            metric=metric,
            mode=mode,
            num_samples=2,
            stop={"training_iteration": 2},
            storage_path=f"{os.environ['AIRFLOW_HOME']}/searches",
        )
    summary = run_dag(dag).xcom("tune")
    assert (summary["trials"], summary["errors"]) == (2, 0)
    assert metric in summary["best_metrics"]
