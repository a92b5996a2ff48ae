"""Ray's own examples for Ray Tune: whole, as the work of a task, and their trainables in a search of this package."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator

import pytest

from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.tune import RayTuneOperator
from tests.conftest import new_uri
from tests.dag_runs import context_of

pytestmark = pytest.mark.slow
CONN_ID = "ray_gateway"

UNIFORM = {"width": {"uniform": [1, 20]}, "height": {"uniform": [-100, 100]}}
BREAST_CANCER = {"objective": "binary:logistic", "eval_metric": ["logloss", "error"], "eta": {"uniform": [0.01, 0.1]}}
LIGHTGBM = {"objective": "binary", "metric": ["binary_error", "binary_logloss"], "verbose": -1}

# Of each example: its trainable, the metric of that and what is best, and a space to search.
TRAINABLES = {
    "tune_basic_example": ("easy_objective", "mean_loss", "min", {"steps": 3, **UNIFORM}),
    "hyperband_function_example": ("train_func", "episode_reward_mean", "max", {"height": {"uniform": [0, 100]}}),
    "optuna_multiobjective_example": ("easy_objective", "loss", "min", {"steps": 3, **UNIFORM}),
    "custom_func_checkpointing": ("train_func", "mean_loss", "min", UNIFORM),
    "pbt_function": ("pbt_function", "mean_accuracy", "max", {"lr": {"uniform": [0.0001, 0.02]}}),
    "xgboost_example": ("train_breast_cancer", "test-logloss", "min", BREAST_CANCER),
    "lightgbm_example": ("train_breast_cancer", "binary_error", "min", LIGHTGBM),
}
# The trainable of these is that of the first one, to the letter or nearly so.
ALIKE = "async_hyperband_example", "optuna_example", "optuna_define_by_run_example", "logging_example"
NEEDED = {"lightgbm_example": "lightgbm", "xgboost_example": "xgboost"}


@pytest.fixture(scope="module")
def hook(head) -> Iterator[RayHook]:
    with RayHook(CONN_ID).connect() as hook:
        yield hook


def whole(name: str) -> str:
    """Run an example as ``python -m`` does, with as few trials as show that it works: each is a process of its own."""
    import runpy
    import sys
    from unittest import mock

    from ray import tune

    class FewTrials(tune.TuneConfig):
        def __init__(self, **settings):
            super().__init__(**{**settings, "num_samples": 2})

    with mock.patch.object(tune, "TuneConfig", FewTrials), mock.patch.object(sys, "argv", [name, "--smoke-test"]):
        return runpy.run_module(f"ray.tune.examples.{name}", run_name="__main__", alter_sys=True)["__name__"]


@pytest.mark.parametrize("name", [*TRAINABLES, *ALIKE])
def test_example_runs_whole_in_a_task(hook, name):
    pytest.importorskip(NEEDED.get(name, "ray"))
    uri = new_uri(CONN_ID)
    hook.submit(whole, name, uri=uri, num_cpus=0)
    hook.wait(uri)
    assert hook.get(uri) == "__main__"


@pytest.mark.parametrize("name", TRAINABLES)
def test_trainable_of_an_example_is_searched(hook, tmp_path, name):
    pytest.importorskip(NEEDED.get(name, "ray"))
    module = importlib.import_module(f"ray.tune.examples.{name}")
    function, metric, mode, space = TRAINABLES[name]
    operator = RayTuneOperator(
        task_id="tune",
        trainable=getattr(module, function),
        param_space=space,
        metric=metric,
        mode=mode,
        num_samples=2,
        stop={"training_iteration": 2},
        storage_path=str(tmp_path),
        ray_conn_id=CONN_ID,
    )
    summary = operator.execute(context_of(f"dag_{uuid.uuid4().hex}"))
    assert (summary["trials"], summary["errors"]) == (2, 0)
    assert metric in summary["best_metrics"]
