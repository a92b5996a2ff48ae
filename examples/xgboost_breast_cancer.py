"""Train XGBoost on Ray with classic operators: load, split, train on two actors, evaluate, report.

Each task runs in a process of its own. The DataFrames stay in Ray's object store: what goes through
Airflow's database is their names.
"""

from __future__ import annotations

import pendulum
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from airflow_ray.operators.python import RayPythonOperator


def load():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


def split(frame, test_share):
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(frame, test_size=test_share, random_state=0, stratify=frame["target"])
    return {"train": train, "test": test}


def train(frame, num_actors, max_depth):
    from xgboost_ray import RayDMatrix, RayParams
    from xgboost_ray import train as train_on_ray

    parameters = {"objective": "binary:logistic", "eval_metric": ["logloss", "error"], "max_depth": max_depth}
    return train_on_ray(
        parameters,
        RayDMatrix(frame, label="target"),
        num_boost_round=20,
        ray_params=RayParams(num_actors=num_actors, cpus_per_actor=1),
    )


def evaluate(model, frame):
    import xgboost

    print(f"{len(frame)} rows held out")
    predicted = model.predict(xgboost.DMatrix(frame.drop(columns="target"))) > 0.5
    return float((predicted == frame["target"]).mean())


def report(accuracy):
    print(f"Accuracy on the held-out rows: {accuracy:.3f}")
    return accuracy


with DAG(
    dag_id="xgboost_breast_cancer",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "test_share": Param(0.25, type="number", minimum=0.05, maximum=0.5),
        "num_actors": Param(2, type="integer", minimum=1),
        "max_depth": Param(4, type="integer", minimum=1),
    },
    render_template_as_native_obj=True,
    tags=["ray", "example"],
    doc_md=__doc__,
):
    load_data = RayPythonOperator(task_id="load", python_callable=load)

    split_data = RayPythonOperator(
        task_id="split",
        python_callable=split,
        op_kwargs={"frame": load_data.output, "test_share": "{{ params.test_share }}"},
        multiple_outputs=True,
    )

    # The actors reserve a CPU each; this task only waits for them.
    train_model = RayPythonOperator(
        task_id="train",
        python_callable=train,
        op_kwargs={
            "frame": split_data.output["train"],
            "num_actors": "{{ params.num_actors }}",
            "max_depth": "{{ params.max_depth }}",
        },
        num_cpus=0,
    )

    evaluate_model = RayPythonOperator(
        task_id="evaluate",
        python_callable=evaluate,
        op_args=[
            "{{ ti.xcom_pull(task_ids='train') }}",
            "{{ ti.xcom_pull(task_ids='split', key='test') }}",
        ],
        result="value",
    )

    show = PythonOperator(task_id="report", python_callable=report, op_args=[evaluate_model.output])

    [train_model, split_data] >> evaluate_model >> show
