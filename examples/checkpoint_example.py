"""A long task leaves a checkpoint in S3; the tasks after it get its result whatever happens to the cluster.

``python -m tools.recovery`` (``make demo-recovery``) runs this DAG and takes the cluster away under it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_ray.operators.python import RayPythonOperator


def take_time(seconds):
    """Work for a while, and say so."""
    import time

    for second in range(int(seconds)):
        print(f"working, {second + 1} of {seconds} seconds")
        time.sleep(1)


def prepare(rows, seconds):
    import numpy as np
    import pandas as pd

    take_time(seconds)
    random = np.random.default_rng(0)
    x = random.normal(size=int(rows))
    return pd.DataFrame({"x": x, "y": 3 * x + random.normal(size=int(rows)), "group": pd.Categorical(x > 0)})


def profile(frame):
    print(frame.describe())
    return frame.dtypes.astype(str).to_dict()


def correlate(frame, seconds):
    take_time(seconds)
    return float(frame["x"].corr(frame["y"]))


def fit(frame, seconds):
    import numpy as np

    take_time(seconds)
    slope, intercept = np.polyfit(frame["x"], frame["y"], 1)
    return {"slope": float(slope), "intercept": float(intercept)}


with DAG(
    dag_id="checkpoint_example",
    schedule=None,
    params={
        "rows": Param(200_000, type="integer"),
        "seconds": Param(0, type="integer", description="how long the tasks take on their first try"),
        "checkpoint_path": Param(f"file://{Path.home()}/airflow-ray-checkpoints", type="string"),
        "checkpoint_source": Param("", type="string", description="AWS connection for a path on S3"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(seconds=2)},
    tags=["ray", "example"],
    doc_md=__doc__,
):
    seconds = "{{ params.seconds if ti.try_number == 1 else 0 }}"
    prepared = RayPythonOperator(
        task_id="prepare",
        python_callable=prepare,
        op_args=["{{ params.rows }}", 3],
        checkpoint=True,
        checkpoint_path="{{ params.checkpoint_path }}",
        checkpoint_source="{{ params.checkpoint_source }}",
    )
    profiled = RayPythonOperator(task_id="profile", python_callable=profile, op_args=[prepared.output], result="value")
    correlated = RayPythonOperator(
        task_id="correlate", python_callable=correlate, op_args=[prepared.output, seconds], result="value"
    )
    fitted = RayPythonOperator(task_id="fit", python_callable=fit, op_args=[prepared.output, seconds], result="value")
    profiled >> correlated >> fitted
