"""Search hyper-parameters of XGBoost with classic operators: load, split, tune with ASHA, predict with the best model.

The search is one Airflow task, its trials run across the cluster. The next task gets the model of the best trial.
"""

from __future__ import annotations

import pendulum
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.tune import RayTuneOperator

ROUNDS = 20
SEARCH_SPACE = {
    "objective": "binary:logistic",
    "eval_metric": ["logloss", "error"],
    "max_depth": {"randint": ["{{ params.least_depth }}", 9]},
    "min_child_weight": {"choice": [1, 2, 3]},
    "subsample": {"uniform": [0.5, 1.0]},
    "eta": {"loguniform": [0.01, 0.3]},
}


def load():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


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


def evaluate(model, frame):
    import xgboost

    print(f"{len(frame)} rows held out")
    predicted = model.predict(xgboost.DMatrix(frame.drop(columns="target"))) > 0.5
    return float((predicted == frame["target"]).mean())


def report(accuracy, config):
    print(f"Accuracy on the held-out rows: {accuracy:.3f} with {config}")
    return accuracy


with DAG(
    dag_id="xgboost_tune_breast_cancer",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "num_samples": Param(8, type="integer", minimum=1),
        "least_depth": Param(2, type="integer", minimum=1, maximum=8),
        "report_path": Param(None, type=["string", "null"], description="Where to write a page with charts"),
    },
    tags=["ray", "example"],
    doc_md=__doc__,
    render_template_as_native_obj=True,
):
    load_data = RayPythonOperator(task_id="load", python_callable=load)

    split_data = RayPythonOperator(
        task_id="split", python_callable=split, op_args=[load_data.output], multiple_outputs=True
    )

    tune = RayTuneOperator(
        task_id="tune",
        trainable=train,
        data={"rows": split_data.output["train"], "validation": split_data.output["validation"]},
        param_space=SEARCH_SPACE,
        metric="validation-logloss",
        mode="min",
        num_samples="{{ params.num_samples }}",
        scheduler={"asha": {"max_t": ROUNDS, "grace_period": 4}},
        load_best_checkpoint=True,
        report_path="{{ params.report_path }}",
    )

    evaluate_model = RayPythonOperator(
        task_id="evaluate",
        python_callable=evaluate,
        op_args=[tune.output["best_object"], split_data.output["test"]],
        result="value",
    )

    PythonOperator(
        task_id="report", python_callable=report, op_args=[evaluate_model.output, tune.output["best_config"]]
    )
