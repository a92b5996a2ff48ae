"""A Ray cluster on Kubernetes for each DAG run: made, used by three tasks, and taken away, also when one of them fails.

It needs KubeRay, the extra ``kuberay``, and two connections: ``kubernetes_default`` to Kubernetes, and ``ray_run``, of
type ``ray`` and mode ``gateway``, with the host ``{run}-head-svc.default.svc`` and a token as its password. The image
has to have the Python minor version of Airflow.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from airflow_ray.decorators import ray_task
from airflow_ray.operators.kuberay import CreateRayClusterOperator, DeleteRayClusterOperator

CONN_ID = "ray_run"
MANIFEST = """
apiVersion: ray.io/v1
kind: RayCluster
spec:
  headGroupSpec:
    rayStartParams: {}
    template:
      spec:
        containers:
          - name: ray-head
            image: {{ params.image }}
            resources:
              requests: {cpu: "1", memory: 4Gi}
              limits: {memory: 4Gi}
  workerGroupSpecs:
    - groupName: workers
      replicas: {{ params.workers }}
      minReplicas: 0
      maxReplicas: {{ params.workers }}
      rayStartParams: {}
      template:
        spec:
          containers:
            - name: ray-worker
              image: {{ params.image }}
              resources:
                requests: {cpu: "2", memory: 4Gi}
                limits: {memory: 4Gi}
"""


@ray_task(ray_conn_id=CONN_ID)
def measure(params):
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    frame = pd.DataFrame({"dose": random.uniform(0, 10, size=params["rows"])})
    return frame.assign(response=3 * frame["dose"] + 1 + random.normal(size=len(frame)))


@ray_task(ray_conn_id=CONN_ID)
def clean(frame):
    return frame[frame["response"] > 0].reset_index(drop=True)


@ray_task(ray_conn_id=CONN_ID, result="value")
def slope(frame):
    import numpy as np

    return float(np.polyfit(frame["dose"], frame["response"], deg=1)[0])


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "image": Param("rayproject/ray:2.56.0-py311", type="string"),
        "workers": Param(1, type="integer", minimum=0),
        "rows": Param(100_000, type="integer", minimum=10),
    },
    tags=["ray", "example"],
    doc_md=__doc__,
)
def kuberay_run_cluster():
    made = CreateRayClusterOperator(task_id="make_cluster", manifest=MANIFEST, ray_conn_id=CONN_ID, deferrable=True)
    deleted = DeleteRayClusterOperator(task_id="delete_cluster", ray_conn_id=CONN_ID)
    with deleted.as_teardown(setups=made.as_setup()):
        slope(clean(measure()))


kuberay_run_cluster()
