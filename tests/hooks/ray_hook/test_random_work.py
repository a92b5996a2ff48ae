"""Work, objects and their owner on a real cluster, one thing after another at random, against what is promised."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from hypothesis import seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from airflow_ray.exceptions import AirflowRayError, RayObjectLostError, RayOwnerDiedError, RayTaskCancelledError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import await_file, examples
from tests.ray_head import RayHead

CONN_ID = "ray_random"
SHORT_LIVED = "ray_random_short_lived"
# The outputs of the second are checkpointed.
NAMES = "plain", "kept"


def note(path: str) -> str:
    """Write a line into the ledger, and return it."""
    line = str(uuid.uuid4())
    with open(path, "a") as ledger:
        ledger.write(f"{line}\n")
    return line


def hold(path: str) -> None:
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


@dataclass
class Work:
    """What is promised of a name: the value that it gives, or the process that is under way for a holder."""

    generation: str | None = None
    value: str | None = None
    holder: str | None = None
    process: psutil.Process | None = None


class ClusterMachine(RuleBasedStateMachine):
    """What the cluster has really run stands in a ledger."""

    folder: Path
    owners: Callable[[], list[psutil.Process]]

    def __init__(self) -> None:
        super().__init__()
        self.run = f"manual__{uuid.uuid4()}"
        self.ledger = self.folder / uuid.uuid4().hex
        self.ledger.touch()
        self.works: dict[str, Work] = {}
        self.checkpoints: dict[str, str] = {}

    def uri(self, name: str, conn_id: str = CONN_ID) -> ObjectURI:
        return ObjectURI(conn_id, "random", self.run, name)

    def hooked(self, do: Callable[[RayHook], Any], conn_id: str = CONN_ID) -> Any:
        with RayHook(conn_id).connect() as hook:
            return do(hook)

    @rule(name=st.sampled_from(NAMES), generation=st.sampled_from(["one", "one", "two", None]))
    def do_work(self, name: str, generation: str | None) -> None:
        known, before = self.works.get(name, Work()), self.ledger.read_text().splitlines()
        goes_on = known.value is not None and known.generation == generation is not None

        def do(hook: RayHook) -> str:
            options: dict[str, Any] = {"generation": generation, "checkpoint": name == "kept"}
            hook.submit(note, str(self.ledger), uri=self.uri(name), **options)
            hook.wait(self.uri(name), timeout=300)
            return hook.get(self.uri(name))

        value = self.hooked(do)
        assert self.ledger.read_text().splitlines() == (before if goes_on else [*before, value])
        self._take_place(name, Work(generation, known.value if goes_on else value))
        assert self.works[name].value == value
        if name == "kept":
            self.checkpoints[name] = value

    @rule(name=st.sampled_from(NAMES), holder=st.sampled_from(["a", "b"]))
    def begin_work(self, name: str, holder: str) -> None:
        path = self.folder / uuid.uuid4().hex
        holder = f"{holder} {path}"
        self.hooked(lambda hook: hook.submit(hold, str(path), uri=self.uri(name), holder=holder))
        self._take_place(name, Work(holder=holder, process=psutil.Process(int(await_file(path)))))

    @rule(name=st.sampled_from(NAMES), by=st.sampled_from(["holder", "another", "anybody"]))
    def cancel(self, name: str, by: str) -> None:
        work = self.works.get(name, Work())
        holder = {"holder": work.holder or "nobody", "another": "another", "anybody": None}[by]
        is_stopped = self.hooked(lambda hook: hook.cancel(self.uri(name), holder))
        assert is_stopped == (work.process is not None and by != "another")
        if is_stopped:
            with pytest.raises(RayTaskCancelledError):
                self.hooked(lambda hook: hook.wait(self.uri(name), timeout=300))
            self._take_place(name, Work())

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        freed = self.hooked(lambda hook: hook.release(self.uri(name)))
        had = name in self.works and self.works[name].value is not None
        assert freed == ([self.uri(name)] if had else [])
        assert self.hooked(lambda hook: hook.status(self.uri(name))) == "LOST"
        self._forget(name)

    @rule(name=st.sampled_from(NAMES))
    def read(self, name: str) -> None:
        work = self.works.get(name)
        value = work.value if work else self.checkpoints.get(name)
        if value is None:
            with pytest.raises(AirflowRayError) as caught:
                self.hooked(lambda hook: hook.get(self.uri(name)))
            assert work is not None or caught.type is RayObjectLostError
            return
        assert self.hooked(lambda hook: hook.get(self.uri(name))) == value
        # From a checkpoint it is an object as any other, which no work has made.
        self.works[name] = work or Work(value=value)

    @rule()
    def expire(self) -> None:
        uri = self.uri("short_lived", SHORT_LIVED)

        def wait_until_gone(hook: RayHook) -> None:
            hook.put("soon gone", uri=uri)
            while hook.status(uri) != "LOST":
                time.sleep(0.05)

        self.hooked(wait_until_gone, SHORT_LIVED)

    @rule()
    def kill_owner(self) -> None:
        for owner in type(self).owners():
            owner.kill()
            owner.wait(60)
        for name in list(self.works):
            self._forget(name)
        # The connection learns of it by its next call.
        while True:
            try:
                assert self.hooked(lambda hook: hook.list_objects("random", self.run)) == []
                return
            except RayOwnerDiedError:
                continue

    def teardown(self) -> None:
        self.hooked(lambda hook: hook.release(dag_id="random", run_id=self.run))
        for name in list(self.works):
            self._forget(name)
        assert self.hooked(lambda hook: hook.list_objects("random", self.run)) == []

    def _take_place(self, name: str, work: Work) -> None:
        self._forget(name)
        self.works[name] = work

    def _forget(self, name: str) -> None:
        """What was under way ends."""
        work = self.works.pop(name, None)
        if work is not None and work.process is not None:
            work.process.wait(60)


# One part after another, all of `make faults` would take hours.
PARTS = [
    pytest.param(0, marks=[pytest.mark.slow, pytest.mark.faults]),
    *(pytest.param(number, marks=pytest.mark.only_faults) for number in (1, 2, 3)),
]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", PARTS)
def test_cluster_keeps_the_rules_whatever_is_asked_of_it(
    head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, part: int
) -> None:
    # What another part has left on the same head has an owner of its own.
    namespace = f"random_{part}"
    for conn_id, ttl in ((CONN_ID, None), (SHORT_LIVED, 1)):
        extra = {"namespace": namespace, "connect_timeout": 180, "checkpoint_path": f"file://{tmp_path}/checkpoints"}
        fields = urlencode(
            {"__extra__": json.dumps({**extra, "mode": "gateway", **({"object_ttl": ttl} if ttl else {})})}
        )
        address = head.gateway_uri.partition("?")[0]
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", f"{address}?{fields}")
    others = {process.pid for process in head.processes("ray::Owner")}

    class Machine(ClusterMachine):
        folder = tmp_path
        owners = staticmethod(lambda: [each for each in head.processes("ray::Owner") if each.pid not in others])

    if (of_run := pytestconfig.getoption("hypothesis_seed")) is not None:
        # All parts would take the same examples otherwise.
        seed(f"{of_run}-{part}")(Machine)
    run_state_machine_as_test(Machine, settings=examples(3, 50, steps=8))
