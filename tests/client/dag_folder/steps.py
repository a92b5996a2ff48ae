"""What two Airflow tasks do, each in a process of its own: ``produce`` and ``consume``."""

from __future__ import annotations

import json
import sys

from loading import load_as_airflow_does

from airflow_ray.client.xcom_values import handed_over, received
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI

STEP, CONN_ID, RUN_ID, CHECKPOINTS = sys.argv[1:]


def uri(way, name):
    return ObjectURI(CONN_ID, "types", RUN_ID, f"{way}_{name}")


def run(hook, function, *args, task):
    hook.submit(function, *args, uri=task)
    hook.wait(task)
    return hook.get(task)


def produce(hook, dag):
    checkpoints = S3CheckpointHook(path=CHECKPOINTS)
    links = {}
    for name, make in dag.MAKERS.items():
        hook.submit(make, uri=uri("returned", name))
        hook.put(make(), uri=uri("put", name))
        checkpoints.save(uri("saved", name), make())
        # What Airflow itself stores as JSON, such as a dataclass, does not go to Ray.
        if name != "list":
            links[name] = handed_over(make(), ObjectURI("any", "types", RUN_ID, f"pushed_{name}"))
        hook.wait(uri("returned", name))
    hook.put(dag.Counted(), uri=uri("put", "counted"))
    dag.Counted.made = 7
    hook.get(uri("put", "counted"))
    return {
        "links": links,
        "counted here": dag.Counted.made,
        "counted there": run(hook, dag.count_through_a_pickle, task=uri("returned", "counted")),
        "two of one name": run(
            hook,
            lambda got: [type(got[0]) is not type(got[1]), *(each.value() for each in got)],
            put(hook, dag.two_of_one_name(), "two"),
            task=uri("returned", "two"),
        ),
    }


def put(hook, value, name):
    return hook.put(value, uri=uri("put", name))


def checks(hook, name, check, link):
    """Yield each way that a value has come, and a function that checks it after that way."""
    for way in ("returned", "put", "saved"):
        yield way, lambda way=way: run(hook, check, uri(way, name), task=uri(f"checked_{way}", name))
    yield "fetched", lambda: check(hook.get(uri("returned", name)))
    yield "loaded", lambda: check(S3CheckpointHook(path=CHECKPOINTS).load(uri("saved", name)))
    if link:
        yield "pushed", lambda: run(hook, check, link, task=uri("checked_pushed", name))
        yield "pulled", lambda: check(received(link, is_whole=True))


def consume(hook, dag):
    found = {}
    links = json.load(sys.stdin)["links"]
    for name, check in dag.CHECKS.items():
        for way, look in checks(hook, name, check, links.get(name)):
            try:
                found[f"{way} {name}"] = look()
            # One that is not right is not to hide the others.
            except Exception as error:
                found[f"{way} {name}"] = {repr(error): False}
    return found


with RayHook(CONN_ID).connect() as connected:
    print(json.dumps({"produce": produce, "consume": consume}[STEP](connected, load_as_airflow_does())))
