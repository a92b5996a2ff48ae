"""Train a model, serve it with Ray Serve, ask it over HTTP, and take it down again, whatever became of the question.

Serve runs in actors that outlive the task which starts them, and listens on the head of the cluster, for that machine
only. ``deploy`` and ``ask`` run there too. Leave out ``take_down`` and the model stays.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import Param, dag

from airflow_ray.decorators import ray_task

NAME = "breast-cancer"
ON_THE_HEAD = {"node:__internal_head__": 0.001}


@ray_task
def train():
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = load_breast_cancer(return_X_y=True)
    return RandomForestClassifier(n_estimators=20, random_state=0).fit(rows[::2], labels[::2])


# Serve waits for a minute for what it starts; where that takes longer, the next try finds it.
@ray_task(num_cpus=0, resources=ON_THE_HEAD, result="value", retries=3, retry_delay=timedelta(seconds=30))
def deploy(model, params):
    """Serve the model and return its address."""
    import socket

    from ray import serve

    # A CPU that it reserved would be missing elsewhere for as long as it serves, and this machine may have but two.
    @serve.deployment(ray_actor_options={"num_cpus": 0})
    class Classifier:
        def __init__(self, model):
            self.model = model

        async def __call__(self, request):
            return self.model.predict(await request.json()).tolist()

    port = params["port"]
    if not serve.status().proxies:
        # Serve would keep a port that another program has.
        socket.create_server(("127.0.0.1", port)).close()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(Classifier.bind(model), name=NAME, route_prefix=f"/{NAME}")
    return f"http://127.0.0.1:{port}/{NAME}"


@ray_task(num_cpus=0, resources=ON_THE_HEAD, result="value")
def ask(url):
    """Return which share of the answers is right, for the rows that the model has not seen."""
    import json
    from urllib.request import urlopen

    from sklearn.datasets import load_breast_cancer

    rows, labels = load_breast_cancer(return_X_y=True)
    with urlopen(url, data=json.dumps(rows[1::2].tolist()).encode(), timeout=60) as response:
        answers = json.load(response)
    return float((labels[1::2] == answers).mean())


@ray_task(num_cpus=0, result="value")
def take_down():
    """Take the model down, and Serve as well if it serves nothing else."""
    from ray import serve

    if NAME in serve.status().applications:
        serve.delete(NAME)
    if not serve.status().applications:
        serve.shutdown()


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    max_active_runs=1,
    params={"port": Param(8000, type="integer", minimum=1, maximum=65535, description="Serve's, if it runs already")},
    tags=["ray", "example"],
    doc_md=__doc__,
)
def deploy_model():
    url = deploy(train())
    with take_down().as_teardown(setups=url):
        ask(url)


deploy_model()
