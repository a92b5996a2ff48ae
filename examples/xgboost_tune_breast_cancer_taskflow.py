"""Search hyper-parameters of XGBoost: the pipeline of ``xgboost_tune_breast_cancer.py``, decorated."""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag, task

from airflow_ray.decorators import ray_task
from airflow_ray.operators.tune import RayTuneOperator

ROUNDS = 20
SEARCH_SPACE = {
    "objective": "binary:logistic",
    "eval_metric": ["logloss", "error"],
    "max_depth": {"randint": [2, 9]},
    "min_child_weight": {"choice": [1, 2, 3]},
    "subsample": {"uniform": [0.5, 1.0]},
    "eta": {"loguniform": [0.01, 0.3]},
}


@ray_task
def load():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


@ray_task(multiple_outputs=True)
def split(frame):
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(frame, test_size=0.25, random_state=0, stratify=frame["target"])
    train, validation = train_test_split(rest, test_size=0.25, random_state=0, stratify=rest["target"])
    return {"train": train, "validation": validation, "test": test}


def train(config, rows, validation):
    """Train one configuration; each round reports how it does on the validation rows."""
    import xgboost
    from ray.tune.integration.xgboost import TuneReportCheckpointCallback

    def matrix(frame):
        return xgboost.DMatrix(frame.drop(columns="target"), label=frame["target"])

    xgboost.train(
        config,
        matrix(rows),
        ROUNDS,
        evals=[(matrix(validation), "validation")],
        verbose_eval=False,
        callbacks=[TuneReportCheckpointCallback(frequency=1)],
    )


@ray_task(result="value")
def evaluate(model, frame):
    import xgboost

    print(f"{len(frame)} rows held out")
    predicted = model.predict(xgboost.DMatrix(frame.drop(columns="target"))) > 0.5
    return float((predicted == frame["target"]).mean())


@task
def report(accuracy, config):
    print(f"Accuracy on the held-out rows: {accuracy:.3f} with {config}")
    return accuracy


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={"num_samples": Param(8, type="integer", minimum=1)},
    tags=["ray", "example"],
    doc_md=__doc__,
)
def xgboost_tune_breast_cancer_taskflow():
    parts = split(load())
    tune = RayTuneOperator(
        task_id="tune",
        trainable=train,
        data={"rows": parts["train"], "validation": parts["validation"]},
        param_space=SEARCH_SPACE,
        metric="validation-logloss",
        mode="min",
        num_samples="{{ params.num_samples }}",
        scheduler={"asha": {"max_t": ROUNDS, "grace_period": 4}},
        load_best_checkpoint=True,
    )
    report(evaluate(tune.output["best_object"], parts["test"]), tune.output["best_config"])


xgboost_tune_breast_cancer_taskflow()
