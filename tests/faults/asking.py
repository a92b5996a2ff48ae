"""Prints as JSON what of a run is still under way on the cluster when it has had time to end, and frees all of it."""

from __future__ import annotations

import json
import sys
import time

from airflow_ray.cluster.protocol import State
from airflow_ray.hooks.ray import RayHook
from tests.faults.task import CONN_ID, DAG_ID

# In which work has ended whose task has.
END_SECONDS = 300.0


def under_way(hook: RayHook, run_id: str) -> list[str]:
    held = hook.list_objects(DAG_ID, run_id)
    return [f"{each['uri']} {each['state']}" for each in held if not State(each["state"]).is_final]


if __name__ == "__main__":
    (run_id,) = sys.argv[1:]
    deadline = time.monotonic() + END_SECONDS
    with RayHook(CONN_ID).connect() as hook:
        while (left := under_way(hook, run_id)) and time.monotonic() < deadline:
            time.sleep(0.2)
        hook.release(dag_id=DAG_ID, run_id=run_id)
    print(json.dumps(left))
