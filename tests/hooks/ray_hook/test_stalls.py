"""Work that waits for what cannot come, on a cluster of 4 CPUs and 2 gadgets: who follows it hears of that."""

from __future__ import annotations

import time

import pytest

from airflow_ray.client.client import RayClient
from airflow_ray.exceptions import RaySchedulingError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import await_file, new_uri
from tests.ray_head import RayHead


def make_an_actor(**options):
    """Wait for an actor without a call that would lend the CPUs of the task."""
    import time

    import ray

    class Trainer:
        def ready(self):
            return True

    ready = ray.remote(Trainer).options(**options).remote().ready.remote()
    while not ray.wait([ready], timeout=0)[0]:
        time.sleep(0.1)


def reserve_a_placement_group(bundles):
    import ray

    ray.get(ray.util.placement_group(bundles).ready())


def start_a_child_task(**options):
    import ray

    ray.get(ray.remote(sleep).options(name="a child", **options).remote())


def sleep():
    import time

    time.sleep(300)


def detail_of(hook, uri):
    """Return the first that is said of what work waits for once it runs."""
    for progress in RayClient(hook.ray_conn_id).follow(uri):
        if progress.state != "PENDING" and (progress.detail or progress.record):
            return progress.detail
    raise AssertionError("it has ended")


@pytest.mark.slow
def test_actor_that_waits_for_what_its_task_holds_is_told(hook, uri):
    hook.submit(make_an_actor, uri=uri, resources={"gadget": 1}, kwargs={"resources": {"gadget": 2}})
    try:
        told = detail_of(hook, uri)
        assert told.startswith("resources that the task holds itself: actor Trainer that asks for {'CPU': 1, 'gadget'")
        assert "Held by the task itself {'CPU': 1, 'gadget': 1}" in told
        assert "Give the task resources without 'gadget', since" in told
        assert hook.describe(uri)["detail"] == told
    finally:
        hook.cancel(uri)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "arguments", "what"),
    [
        (make_an_actor, {"resources": {"no such": 1}}, "actor Trainer that asks for {'CPU': 1, 'no such': 1}"),
        (reserve_a_placement_group, {"bundles": [{"CPU": 1}, {"CPU": 9}]}, "placement group that asks for "),
        (start_a_child_task, {"num_cpus": 9}, "child task a child that asks for {'CPU': 9}"),
    ],
    ids=["actor", "placement group", "child task"],
)
def test_what_can_never_come_inside_a_callable_fails_the_work(hook, uri, function, arguments, what):
    hook.submit(function, uri=uri, num_cpus=0, kwargs=arguments)
    with pytest.raises(RaySchedulingError, match="no node of the Ray cluster can ever give") as raised:
        hook.wait(uri)
    assert what in str(raised.value)


@pytest.mark.slow
def test_pending_work_is_told_who_holds_what_it_waits_for(hook, uri):
    holder = new_uri(hook.ray_conn_id, "holder")
    hook.submit(sleep, uri=holder, resources={"gadget": 2})
    hook.submit(sleep, uri=uri, resources={"gadget": 1})
    try:
        while f"'{holder.task_id}'" not in (hook.describe(uri)["detail"] or ""):
            time.sleep(0.5)
        assert f"Held by task '{holder.task_id}' of DAG" in hook.describe(uri)["detail"]
    finally:
        hook.cancel(uri)
        hook.cancel(holder)


def search_inside_a_trial():
    """Start a search in each trial of another one, which holds all that the inner one asks for."""
    from ray import tune

    def inner(config):
        tune.report({"loss": config["x"]})

    def outer(config):
        holding = tune.with_resources(inner, {"gadget": 1})
        tune.Tuner(holding, param_space={"x": 1}, run_config=tune.RunConfig(verbose=0)).fit()
        tune.report({"loss": config["x"]})

    tune.Tuner(tune.with_resources(outer, {"gadget": 2}), param_space={"x": 1}).fit()


@pytest.mark.slow
def test_trial_that_waits_for_a_second_placement_group_is_told(head):
    uri = new_uri("ray_gateway")
    with RayHook("ray_gateway").connect() as hook:
        hook.submit(search_inside_a_trial, uri=uri, num_cpus=0, fresh_process=True)
        try:
            told = detail_of(hook, uri)
        finally:
            hook.cancel(uri)
    assert told.startswith("resources that the task holds itself: placement group")
    assert "a trial of Ray Tune: by tune.PlacementGroupFactory" in told


@pytest.fixture
def own_head(monkeypatch):
    """A head whose nodes may be lost."""
    head = RayHead()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_OWN", head.gateway_uri)
    yield head
    head.stop()


def until_there(gate, ledger):
    import pathlib
    import time

    with open(ledger, "a") as file:
        file.write("begun\n")
    while not pathlib.Path(gate).exists():
        time.sleep(0.1)


@pytest.mark.slow
def test_work_whose_node_is_lost_says_what_it_waits_for_and_runs_on_the_next(own_head, tmp_path):
    uri, gate, ledger = new_uri("ray_own"), tmp_path / "gate", tmp_path / "ledger"
    node = own_head.add_node(away=1)
    with RayHook("ray_own").connect() as hook:
        hook.submit(until_there, str(gate), str(ledger), uri=uri, resources={"away": 1})
        await_file(ledger)
        node.kill()
        told = detail_of(hook, uri)
        own_head.add_node(away=1)
        gate.touch()
        hook.wait(uri)
    assert told.startswith(
        "resources to run again, since its process or node was lost: asked for {'CPU': 1, 'away': 1}"
    )
    assert ledger.read_text() == "begun\nbegun\n"
