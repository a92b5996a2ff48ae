"""Train XGBoost on Ray with ``@ray_task``: the pipeline of ``xgboost_breast_cancer.py``, decorated."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

from airflow_ray.decorators import ray_task


@ray_task
def load():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


@ray_task(multiple_outputs=True)
def split(frame, test_share):
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(frame, test_size=test_share, random_state=0, stratify=frame["target"])
    return {"train": train, "test": test}


# The actors reserve a CPU each; this task only waits for them.
@ray_task(num_cpus=0)
def train(frame, num_actors=2):
    from xgboost_ray import RayDMatrix, RayParams
    from xgboost_ray import train as train_on_ray

    return train_on_ray(
        {"objective": "binary:logistic", "eval_metric": ["logloss", "error"], "max_depth": 4},
        RayDMatrix(frame, label="target"),
        num_boost_round=20,
        ray_params=RayParams(num_actors=num_actors, cpus_per_actor=1),
    )


@ray_task(result="value")
def evaluate(model, frame):
    import xgboost

    print(f"{len(frame)} rows held out")
    predicted = model.predict(xgboost.DMatrix(frame.drop(columns="target"))) > 0.5
    return float((predicted == frame["target"]).mean())


@task
def report(accuracy):
    print(f"Accuracy on the held-out rows: {accuracy:.3f}")
    return accuracy


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["ray", "example"],
    doc_md=__doc__,
)
def xgboost_breast_cancer_taskflow():
    parts = split(load(), test_share=0.25)
    report(evaluate(train(parts["train"]), parts["test"]))


xgboost_breast_cancer_taskflow()
