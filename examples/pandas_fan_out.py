"""Six statistics of one frame, each a task of its own, computed side by side and joined to one table.

The frame lies in Ray's object store once: the six tasks read it where it is.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag, task

from airflow_ray.decorators import ray_task

STATISTICS = ["mean", "std", "min", "median", "max", "skew"]


@ray_task
def make_frame(params):
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    return pd.DataFrame({"normal": random.normal(size=params["rows"]), "wait": random.exponential(size=params["rows"])})


@ray_task
def compute(frame, statistic):
    return frame.agg([statistic])


@ray_task(result="value")
def join(tables):
    import pandas as pd

    table = pd.concat(tables)
    print(table)
    return table.to_dict()


@task
def report(table):
    print(f"Skewness of the waiting times: {table['wait']['skew']:.2f}; it is 2 for the distribution they come from.")


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={"rows": Param(1_000_000, type="integer", minimum=10)},
    tags=["ray", "example"],
    doc_md=__doc__,
)
def pandas_fan_out():
    report(join(compute.partial(frame=make_frame()).expand(statistic=STATISTICS)))


pandas_fan_out()
