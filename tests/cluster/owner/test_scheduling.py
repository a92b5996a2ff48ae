"""What a pending request is told that it waits for, with a cluster and its runtime environments made up."""

from __future__ import annotations

import json

import pytest
from ray.runtime_env import RuntimeEnv

from airflow_ray.cluster.owner import environments as environments_module
from airflow_ray.cluster.owner import records
from airflow_ray.cluster.owner import scheduling as scheduling_module
from airflow_ray.cluster.owner.environments import Building, Environments, needs_building
from airflow_ray.cluster.owner.scheduling import Scheduling
from airflow_ray.cluster.protocol import FailureKind
from tests.cluster.owner.fakes import FakeOwner, run

BUILT = {"pip": ["lightgbm"]}
AS_RAY_HAS_IT = {
    name: value for name, value in json.loads(RuntimeEnv(**BUILT).serialize()).items() if not name.startswith("_")
}


class View:
    """One node that has 2 CPUs, some of which are free."""

    def __init__(self, free: float = 0.5) -> None:
        self.free = free

    def take(self):
        return [{"CPU": 2.0}], {"CPU": self.free}


class FakeEnvironments:
    """One that a node builds, or none; what is said there, or an error."""

    def __init__(self, words="", builds=True) -> None:
        self.said, self.builds = words, builds
        self.since = 100.0

    def find(self, runtime_env):
        return Building(runtime_env, "id", "10.0.0.5", self.since) if self.builds else None

    def words(self, node_id):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr(scheduling_module.time, "monotonic", lambda: clock["now"])
    return clock


def of(environments, runtime_env=BUILT, timeout=None, held="", free=0.5):
    options = {"num_cpus": 1, "runtime_env": runtime_env}
    return Scheduling(options, timeout, View(free), environments, lambda names: held)


def test_environment_that_is_being_built_is_what_work_waits_for():
    told = "the runtime_env, which 10.0.0.5 is building, within 600 seconds or the task fails"
    assert of(FakeEnvironments()).check().detail == told


def test_last_words_of_who_builds_it_are_told():
    assert of(FakeEnvironments("Retrying")).check().detail.endswith(". The last that was said there: Retrying")


def test_words_that_cannot_be_read_are_left_out():
    assert of(FakeEnvironments(OSError("gone"))).check().detail.endswith("or the task fails")


@pytest.mark.parametrize("runtime_env", [None, {}, {"env_vars": {"A": "b"}}, {"config": {"setup_timeout_seconds": 5}}])
def test_environment_that_needs_no_building_is_not_blamed(runtime_env):
    assert of(FakeEnvironments(), runtime_env).check().detail.startswith("resources: asked for {'CPU': 1}")
    assert not needs_building(runtime_env)


def test_work_whose_environment_waits_for_a_node_waits_for_resources():
    assert of(FakeEnvironments(builds=False)).check().detail.startswith("resources: ")


def test_environment_that_takes_longer_than_its_time_fails_the_work_with_the_last_words(clock):
    scheduling = of(FakeEnvironments("ERROR: no index"), {**BUILT, "config": {"setup_timeout_seconds": 60}})
    assert scheduling.check().error is None
    clock["now"] += 61
    error = scheduling.check().error
    assert error["kind"] == FailureKind.RUNTIME_ENV.value
    assert error["message"] == (
        "10.0.0.5 had not built it within setup_timeout_seconds=60 seconds. "
        "The last that was said there: ERROR: no index"
    )


def test_environment_may_take_as_long_as_it_takes_where_that_is_said(clock):
    scheduling = of(FakeEnvironments(), {**BUILT, "config": {"setup_timeout_seconds": -1}})
    scheduling.check()
    clock["now"] += 1_000_000
    assert scheduling.check().detail == "the runtime_env, which 10.0.0.5 is building"


def test_time_of_an_environment_begins_with_its_building(clock):
    environments = FakeEnvironments(builds=False)
    scheduling = of(environments)
    scheduling.check()
    clock["now"] += 1_000
    environments.builds, environments.since = True, clock["now"]
    assert scheduling.check().error is None


def test_nodes_that_build_it_one_after_another_make_no_work_late(clock, monkeypatch):
    environments = Environments()
    scheduling = of(environments)
    for node in range(6):
        built = [Building(AS_RAY_HAS_IT, f"node {node}", f"10.0.0.{node}", clock["now"])]
        monkeypatch.setattr(environments_module, "_building", lambda built=built: built)
        for _ in range(2):
            clock["now"] += 100
            assert scheduling.check().error is None


def test_time_of_an_environment_goes_on_while_it_is_looked_at(clock, monkeypatch):
    monkeypatch.setattr(
        environments_module, "_building", lambda: [Building(AS_RAY_HAS_IT, "id", "10.0.0.5", clock["now"])]
    )
    scheduling = of(Environments())
    scheduling.check()
    clock["now"] += 601
    assert scheduling.check().error["kind"] == FailureKind.RUNTIME_ENV.value


def test_scheduling_timeout_tells_that_the_environment_was_being_built(clock):
    scheduling = of(FakeEnvironments(), timeout=5)
    clock["now"] += 6
    error = scheduling.check().error
    assert error["kind"] == FailureKind.SCHEDULING_TIMEOUT.value
    assert error["reason"] == " Its runtime_env was still being built on 10.0.0.5."


def test_watcher_hears_once_what_work_waits_for():
    async def test():
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.records.get("d/r/t/-1").detail = "resources"
        wanted = [("d/r/t/-1", None, None)]
        (news,) = await owner.waiting.watch("one", wanted, 0.0)
        assert (news["detail"], news["ended"]) == ("resources", False)
        assert await owner.waiting.watch("one", wanted, 0.0) == [None]

    run(test())


def test_each_watcher_hears_of_it_whoever_follows_the_work_or_awaits_its_object():
    async def test():
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        owner.records.get("d/r/t/-1").detail = "resources"
        follower, awaiter = ("d/r/t/-1", None, None), ("d/r/t/-1", "return_value", None)
        for watcher in ("one", "two"):
            news = await owner.waiting.watch(watcher, [follower, awaiter, awaiter], 0.0)
            assert [each["detail"] for each in news] == ["resources"] * 3
        assert await owner.waiting.watch("one", [follower, awaiter], 0.0) == [None, None]

    run(test())


def test_who_holds_what_pending_work_waits_for_is_told():
    detail = of(FakeEnvironments(), runtime_env=None, held="task 'a' {'CPU': 1}").check().detail
    assert detail.endswith(". Held by task 'a' {'CPU': 1}: let that end, wait, ask for less, or set scheduling_timeout")


def test_work_for_which_enough_is_free_is_not_said_to_wait_for_that():
    told = "a process to run in, or for room on one node: asked for {'CPU': 1}, free in the cluster: {'CPU': 1.0}"
    assert of(FakeEnvironments(), {}, free=1.0).check().detail == told


def fails(*_):
    raise RuntimeError("the head is busy")


@pytest.mark.parametrize("timeout", [None, 0.0], ids=["early", "late"])
def test_whatever_fails_as_a_request_is_judged_its_time_goes_on(monkeypatch, timeout):
    monkeypatch.setattr(scheduling_module, "fits", fails)
    verdict = of(FakeEnvironments(builds=False), {}, timeout).check()
    if timeout is None:
        assert verdict.detail is not None
        assert "the head is busy" in verdict.detail
    else:
        assert verdict.error is not None
        assert verdict.error["kind"] == FailureKind.SCHEDULING_TIMEOUT


def test_records_may_be_made_while_a_thread_goes_through_them(monkeypatch):
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/a/-1")
        own = records._is_of

        def while_another_is_made(record_id, dag, run):
            owner.records._records.setdefault("d/r/b/-1", owner.records.get("d/r/a/-1"))
            return own(record_id, dag, run)

        monkeypatch.setattr(records, "_is_of", while_another_is_made)
        assert len(owner.records.of(None, None)) == 1

    run(test())
