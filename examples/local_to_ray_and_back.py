"""Plain tasks and Ray tasks hand each other a DataFrame and a model, as they hand over everything else.

It needs this library's XCom backend: ``AIRFLOW__CORE__XCOM_BACKEND=airflow_ray.xcom.RayXComBackend``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pendulum
from airflow.sdk import Param, dag, task

from airflow_ray.decorators import ray_task


@task
def extract(params):
    """Return a frame of measurements; this one runs on the Airflow worker."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    dose = random.uniform(0, 10, size=params["rows"])
    return pd.DataFrame({"dose": dose, "response": 3 * dose + 1 + random.normal(size=params["rows"])})


@ray_task
def transform(frame):
    return frame.assign(dose_squared=frame["dose"] ** 2)


@ray_task
def train(frame):
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(frame[["dose", "dose_squared"]], frame["response"])


@task
def load(frame, model, params):
    """Write what the model makes of the frame to a file of the Airflow worker."""
    predicted = frame.assign(predicted=model.predict(frame[["dose", "dose_squared"]]))
    predicted.to_csv(params["path"], index=False)
    print(f"{len(predicted)} rows in {params['path']}")
    return float(model.coef_[0])


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "rows": Param(10_000, type="integer", minimum=10),
        "path": Param(str(Path(tempfile.gettempdir(), "predicted.csv")), type="string"),
    },
    tags=["ray", "example"],
    doc_md=__doc__,
)
def local_to_ray_and_back():
    frame = transform(extract())
    load(frame, train(frame))


local_to_ray_and_back()
