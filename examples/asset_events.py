"""A DAG that starts when an object is there: one makes a table as an asset, another one is scheduled by that.

The event of the asset tells the object's URI, and the second DAG takes the object by it, out of Ray's object store.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Asset, Param, dag, task

from airflow_ray.decorators import ray_task

MEASUREMENTS = Asset("measurements")
OBJECT_URI = "{{ (triggering_asset_events.values() | first | last).extra.object_uri }}"


@ray_task(outlets=[MEASUREMENTS])
def measure(params):
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    return pd.DataFrame({"height": random.normal(170, 10, size=params["rows"])})


@ray_task(result="value")
def average(table):
    return float(table["height"].mean())


@task
def report(height):
    print(f"Average height: {height:.1f} cm")


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={"rows": Param(100_000, type="integer", minimum=1)},
    tags=["ray", "example"],
    doc_md=__doc__,
)
def asset_producer():
    measure()


@dag(
    schedule=[MEASUREMENTS],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["ray", "example"],
    doc_md=__doc__,
)
def asset_consumer():
    report(average(OBJECT_URI))


asset_producer()
asset_consumer()
