"""Track a hyper-parameter search with MLflow: each trial is a run, the best model is registered, and loaded again.

The tracking store is a database in the home folder, for a cluster on this machine. For another one let
``MLFLOW_TRACKING_URI`` be the address of a tracking server that all nodes reach.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import dag, task

from airflow_ray.decorators import ray_task
from airflow_ray.operators.tune import RayTuneOperator

TRACKING_URI = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.home()}/mlflow.db"
NAME = "breast_cancer"


def matrices():
    """Return rows to train with and rows held out."""
    import xgboost
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    parts = train_test_split(*load_breast_cancer(return_X_y=True), test_size=0.25, random_state=0)
    return xgboost.DMatrix(parts[0], label=parts[2]), xgboost.DMatrix(parts[1], label=parts[3])


def train(config):
    import xgboost
    from ray.tune.integration.xgboost import TuneReportCheckpointCallback

    rows, held_out = matrices()
    report = TuneReportCheckpointCallback(frequency=1)
    evals = [(held_out, "validation")]
    xgboost.train(config, rows, 10, evals=evals, verbose_eval=False, callbacks=[report])


def mlflow_callbacks():
    """Return what logs each trial; called on the cluster."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return [MLflowLoggerCallback(tracking_uri=TRACKING_URI, experiment_name=NAME)]


@ray_task(result="value")
def register(model, best_trial):
    """Add the model to the run of its trial, and register it."""
    import mlflow

    mlflow.set_tracking_uri(TRACKING_URI)
    runs = mlflow.search_runs(experiment_names=[NAME], output_format="list")
    run = next(run for run in runs if best_trial in run.data.tags["trial_name"])
    with mlflow.start_run(run.info.run_id):
        logged = mlflow.xgboost.log_model(model, name="model", registered_model_name=NAME)
    return f"models:/{NAME}/{logged.registered_model_version}"


@ray_task(result="value")
def evaluate(model_uri):
    """Load the registered model and return its accuracy."""
    import mlflow

    mlflow.set_tracking_uri(TRACKING_URI)
    _, held_out = matrices()
    predicted = mlflow.xgboost.load_model(model_uri).predict(held_out) > 0.5
    return float((predicted == held_out.get_label()).mean())


@task
def report(accuracy, model_uri):
    print(f"Accuracy of {model_uri} on the held-out rows: {accuracy:.3f}")
    return accuracy


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["ray", "example"],
    doc_md=__doc__,
)
def mlflow_tune_breast_cancer():
    tune = RayTuneOperator(
        task_id="tune",
        trainable=train,
        param_space={
            "objective": "binary:logistic",
            "eta": {"loguniform": [0.01, 0.3]},
            "max_depth": {"choice": [2, 4]},
        },
        metric="validation-logloss",
        mode="min",
        num_samples=4,
        callbacks=mlflow_callbacks,
        load_best_checkpoint=True,
    )
    model_uri = register(tune.output["best_object"], tune.output["best_trial"])
    report(evaluate(model_uri), model_uri)


mlflow_tune_breast_cancer()
