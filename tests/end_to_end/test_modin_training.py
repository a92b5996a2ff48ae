"""A frame of Modin's, filtered, as the data of actors that take all CPUs of a small cluster: a notebook, unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.modin import needs_modin
from tests.ray_head import ENVIRONMENT
from tools.ray_cluster import RayHead

pytestmark = [pytest.mark.slow, needs_modin]
CPUS = 2


@pytest.fixture(scope="module")
def conn_id() -> Iterator[str]:
    head = RayHead(num_cpus=CPUS, environment=ENVIRONMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_SMALL", head.gateway_uri)
        yield "ray_small"
    head.stop()


def train():
    import modin.pandas as pd
    import numpy as np
    from xgboost_ray import RayDMatrix, RayParams
    from xgboost_ray import train as train_on_ray

    values = np.random.default_rng(0).random((20_000, 4), dtype="float32")
    frame = pd.DataFrame(values, columns=["a", "b", "c", "d"])
    frame["label"] = (frame["a"] > 0.5).astype(int)
    model = train_on_ray(
        {"objective": "binary:logistic"},
        RayDMatrix(frame[frame["b"] < frame["b"].quantile(0.7)], label="label"),
        num_boost_round=3,
        ray_params=RayParams(num_actors=2, cpus_per_actor=1),
    )
    return model.num_boosted_rounds()


@pytest.mark.parametrize("num_cpus", [1, CPUS])
def test_actors_on_all_cpus_train_on_a_filtered_frame_of_modin(conn_id, num_cpus):
    with RayHook(conn_id).connect() as hook:
        uri = hook.submit(train, uri=new_uri(conn_id), num_cpus=num_cpus)
        hook.wait(uri, timeout=300)
        assert hook.get(uri) == 3
