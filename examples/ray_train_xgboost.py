"""Train XGBoost with Ray Train, the maintained way on newest versions: load a dataset, train on workers, evaluate.

``storage_path`` is where Ray Train keeps its state: a folder that all nodes see, or ``s3://…``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pendulum
from airflow.sdk import Param, dag

from airflow_ray.decorators import ray_task


@ray_task(multiple_outputs=True)
def load():
    import ray
    from sklearn.datasets import load_breast_cancer

    rows = ray.data.from_pandas(load_breast_cancer(as_frame=True).frame)
    train, test = rows.train_test_split(0.25, shuffle=True, seed=0)
    return {"train": train.materialize(), "test": test.materialize()}


def train_on_worker(config):
    """Train on this worker's share of the rows, together with the other workers."""
    import ray.train
    import xgboost

    rows = ray.train.get_dataset_shard("train").materialize().to_pandas()
    matrix = xgboost.DMatrix(rows.drop(columns="target"), label=rows["target"])
    return xgboost.train({"objective": "binary:logistic", "max_depth": config["max_depth"]}, matrix, 20)


# The workers reserve a CPU each; this task only waits for them.
@ray_task(num_cpus=0)
def train(rows, params):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.xgboost import XGBoostTrainer

    trainer = XGBoostTrainer(
        train_on_worker,
        train_loop_config={"max_depth": params["max_depth"]},
        datasets={"train": rows},
        scaling_config=ScalingConfig(num_workers=params["num_workers"]),
        run_config=RunConfig(storage_path=params["storage_path"]),
    )
    return trainer.fit().return_value


@ray_task(result="value")
def evaluate(model, rows):
    import xgboost

    frame = rows.to_pandas()
    print(f"{len(frame)} rows held out")
    predicted = model.predict(xgboost.DMatrix(frame.drop(columns="target"))) > 0.5
    return float((predicted == frame["target"]).mean())


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "num_workers": Param(2, type="integer", minimum=1),
        "max_depth": Param(4, type="integer", minimum=1),
        "storage_path": Param(str(Path(tempfile.gettempdir(), "ray-train")), type="string"),
    },
    tags=["ray", "example"],
    doc_md=__doc__,
)
def ray_train_xgboost():
    parts = load()
    evaluate(train(parts["train"]), parts["test"])


ray_train_xgboost()
