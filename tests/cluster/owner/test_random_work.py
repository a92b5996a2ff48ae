"""Work, objects and those who wait for them, in any order that somebody may ask for, against a model of the rules."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from airflow_ray.cluster.owner import records, waiting
from airflow_ray.cluster.owner.actor import Owner
from airflow_ray.cluster.owner.record import Record
from tests.cluster.owner.driven import LedgerRay, left_in, owner_on, without_cluster
from tests.cluster.owner.model import Model, Work
from tests.cluster.owner.orders import Clock, OrderedLoop, on_clock
from tests.cluster.owner.steps import (
    KEYS,
    NAMES,
    NO_PROCESS,
    Attach,
    End,
    Notice,
    Release,
    Restore,
    Start,
    Step,
    Submit,
    fingerprints,
    keys,
    names,
    overlapping,
    steps,
    times,
)
from tests.conftest import examples

MAX_LOG_BYTES = 3000
MAX_UNREAD_BYTES = 400
FOLLOW_SECONDS = 1e6
DAY = 24 * 3600.0

clock = Clock()


class Waiter(NamedTuple):
    """Somebody who waits for the work ``number`` under a name, which was in ``state`` then."""

    answer: asyncio.Task[Any]
    name: str
    number: int | None
    state: str


class Watch(NamedTuple):
    answer: asyncio.Task[Any]
    watcher: str
    name: str
    key: str | None


class OwnerMachine(RuleBasedStateMachine):
    """Has steps done at the same time, in the order of a seed, and compares what came of them with the model.

    Steps that overlap must come to what they would one after another, in one order or another.
    """

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.loop = clock.loop = OrderedLoop(seed)
        self.model = Model(now=self.loop.time())
        self.actors = self.waits = 0
        self.waiters: list[Waiter] = []
        self.watches: list[Watch] = []
        self._begin_owner()

    def _begin_owner(self) -> None:
        self.ray = LedgerRay(self.model.checkpoints)
        self.owner: Owner = self._run(self._new_owner())

    async def _new_owner(self) -> Owner:
        return owner_on(self.ray)

    def _run(self, coroutine: Any) -> Any:
        task = self.loop.create_task(coroutine)
        self.loop.settle()
        return task.result()

    @rule(step=steps)
    def one(self, step: Step) -> None:
        self._do([step])

    @rule(several=overlapping)
    def together(self, several: list[Step]) -> None:
        self._do(several)

    def _do(self, several: list[Step]) -> None:
        tasks = [self.loop.create_task(step.on_owner(self.owner, self.ray)) for step in several]
        self.loop.settle()
        assert all(task.done() for task in tasks), f"no answer to one of {several}"
        answers = [task.result() for task in tasks]
        seen = self._seen()
        outcomes = []
        # Between the end of some work and the start of what takes its name no process runs, which no order tells.
        done = [number for number, answer in enumerate(answers) if answer != NO_PROCESS]
        for order in itertools.permutations(done):
            model = copy.deepcopy(self.model)
            told = {number: several[number].on_model(model) for number in order}
            if self._agree(several, answers, told) and seen == _expected(model):
                self.model = model
                self.ray.checkpoints = model.checkpoints
                return
            outcomes.append((told, _expected(model)))
        listed = "\n".join(map(str, outcomes))
        pytest.fail(f"{several} came to\n{(answers, seen)}\nand one after another to one of\n{listed}")

    def _agree(self, several: list[Step], answers: list[Any], told: dict[int, Any]) -> bool:
        """What is still being restored when it is released was not there yet, and may be missing in what was freed."""
        restored = {(step.name, step.key) for step in several if isinstance(step, Restore)}
        for number, expected in told.items():
            answer = answers[number]
            if answer == expected:
                continue
            if not isinstance(several[number], Release):
                return False
            if not set(expected) - restored <= set(answer) <= set(expected):
                return False
        return True

    def _seen(self) -> dict[str, Any]:
        known = self.owner._records
        return {
            "works": {record.record_id: _known_of(record) for record in known.of(None, None)},
            "cancelled": set(known._cancelled_holders),
            "begun": len(self.ray.tasks),
            "under way": sorted(task.record_id for task in self.ray.under_way),
            "ended actors": sorted(map(str, self.ray.ended_actors)),
        }

    @rule(name=names, fingerprint=fingerprints, ttl=times, made=st.sampled_from([("return_value",), KEYS]))
    def make(self, name: str, fingerprint: str | None, ttl: float | None, made: tuple[str, ...]) -> None:
        """What most of the rest is about: objects that are there."""
        self._do([Submit(name, fingerprint, ttl=ttl)])
        self._do([Start(name)])
        self._do([End(name, made)])

    @rule(name=names, number=st.integers(2, 3), holder=st.sampled_from(["second", "third"]))
    def ask_again(self, name: str, number: int, holder: str) -> None:
        """A retry does so where its connection broke before the answer came."""
        attempt = name, "f", (number, "one", 0), holder
        self._do([Submit(name, "f", (1, "one", 0), "first")])
        self._do([Attach(*attempt)])
        self._do([Attach(*attempt)])
        self._do([Submit(*attempt, submission="call")])

    @rule(name=names, key=keys, has_checkpoint=st.booleans())
    def lose_and_notice(self, name: str, key: str, has_checkpoint: bool) -> None:
        if has_checkpoint:
            self.checkpoint(name, key)
        self.lose_object(name, key)
        self._do([Notice(name, key)])

    @rule(name=names, key=keys)
    def lose_object(self, name: str, key: str) -> None:
        """An object is lost with its node; nobody has noticed yet."""
        work = self.model.works.get(name)
        if work is not None and key in work.outputs:
            self.model.gone.add(work.outputs[key])
            self.ray.lost.add(work.outputs[key])

    @rule(name=names, key=keys)
    def checkpoint(self, name: str, key: str) -> None:
        self.model.checkpoints[name, key] = f"checkpoint of {name} {key} {len(self.model.checkpoints)}"

    @rule(name=names, timeout=st.sampled_from([0.0, 5.0, FOLLOW_SECONDS]))
    def follow(self, name: str, timeout: float) -> None:
        work = self.model.works.get(name)
        self.waits += 1
        answer = self.loop.create_task(self.owner.poll(name, None, timeout))
        self.loop.settle()
        if timeout:
            self.model.follow(name)
        waiter = Waiter(answer, name, work.edition if work else None, work.state if work else "LOST")
        assert answer.done() or (timeout and work is not None and work.is_under_way)
        self.waiters.append(waiter)

    @rule(name=names, key=st.none() | keys, watcher=st.sampled_from(["triggerer", "other"]))
    def watch(self, name: str, key: str | None, watcher: str) -> None:
        answer = self.loop.create_task(self.owner.watch(watcher, [(name, key, None)], FOLLOW_SECONDS))
        self.loop.settle()
        if key is None:
            self.model.follow(name)
        for earlier in self.watches:
            assert earlier.answer.done() or earlier.watcher != watcher
        self.watches.append(Watch(answer, watcher, name, key))

    @rule(name=names, lines=st.lists(st.sampled_from(["", "short", "x" * 150, "x" * 300]), max_size=4))
    def write(self, name: str, lines: list[str]) -> None:
        """The work writes; where somebody follows who does not read, it may wait for that."""
        task = self.ray.work_of(name)
        if task is not None:
            self.loop.create_task(self.owner.append_log(name, task.attempt, lines, "I" * len(lines)))
            self.loop.settle()

    @rule(seconds=st.sampled_from([1.0, 7.0, 33.0, 2 * DAY]))
    def time_passes(self, seconds: float) -> None:
        if seconds > DAY and any(work.is_under_way for work in self.model.works.values()):
            seconds = 33.0
        self.loop.pass_time(seconds)
        self.model.let_pass(seconds)
        assert self._seen() == _expected(self.model)

    @rule()
    def owner_dies(self) -> None:
        """Its work and its objects go with it; checkpoints stay."""
        self.loop.kill_tasks()
        self.waiters, self.watches = [], []
        self.model.die()
        self._begin_owner()

    @invariant()
    def all_is_well(self) -> None:
        self._whoever_waits_is_answered()
        self._logs_are_bounded()
        self._each_object_is_listed_once_in_one_state()

    def _whoever_waits_is_answered(self) -> None:
        for waiter in self.waiters:
            work = self.model.works.get(waiter.name)
            is_same = work is not None and (work.edition, work.state) == (waiter.number, waiter.state)
            assert waiter.answer.done() or (is_same and work is not None and work.is_under_way), waiter
        for watch in self.watches:
            assert watch.answer.done() or not self._is_over(watch), watch

    def _is_over(self, watch: Watch) -> bool:
        work = self.model.works.get(watch.name)
        if work is None:
            return watch.key is None
        return not work.is_under_way and watch.key not in work.lost

    def _logs_are_bounded(self) -> None:
        known = self.owner._records
        kept = known.of(None, None)
        assert known._log_bytes == sum(record.log.bytes for record in kept)
        assert all(record.log.bytes <= MAX_LOG_BYTES for record in kept)
        assert all(len(record.log._batches) <= record.log.bytes for record in kept)

    def _each_object_is_listed_once_in_one_state(self) -> None:
        listed = self._run(self.owner.list_objects())
        places = [(each["record_id"], each["key"]) for each in listed]
        assert len(places) == len(set(places))
        for each in listed:
            work = self.model.works[each["record_id"]]
            assert each["state"] == ("LOST" if each["key"] in work.lost else work.state)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self._do([Release(name) for name in NAMES])
            for waiter in self.waiters:
                assert waiter.answer.done(), waiter
            assert self.ray.under_way == []
            self._end_watches()
            # What the works before have left ends by itself: looks, waits for a follower who is gone.
            self.loop.pass_time(100.0)
            assert left_in(self.owner) == {}
            assert [task for task in asyncio.all_tasks(self.loop) if not task.done()] == []
        finally:
            self.loop.end()

    def _end_watches(self) -> None:
        """Whoever watches for an object that is yet to be made asks again until the end of the world."""
        for watcher in {watch.watcher for watch in self.watches}:
            self._run(self.owner.watch(watcher, [], 0.0))
        assert all(watch.answer.done() for watch in self.watches)


def _known_of(record: Record) -> dict[str, Any]:
    task_try = record.task_try and (record.task_try["number"], record.task_try["run"], record.task_try["clearings"])
    is_in_use = bool(record.users) or not record.finished
    return {
        "state": record.state.value,
        "outputs": record.refs,
        "lost": record.lost,
        "by": (record.fingerprint, task_try, record.holder, record.submission),
        "inputs": [(name, key) for name, key, _ in record.inputs],
        "actors": record.actors,
        "ttl": record.ttl,
        "ends": None if record.ttl is None or is_in_use else record.used_at + record.ttl,
    }


def _expected(model: Model) -> dict[str, Any]:
    return {
        "works": {name: _expected_of(work) for name, work in model.works.items()},
        "cancelled": model.cancelled_holders,
        "begun": model.begun,
        "under way": sorted(name for name, work in model.works.items() if work.is_under_way),
        "ended actors": sorted(model.ended_actors),
    }


def _expected_of(work: Work) -> dict[str, Any]:
    return {
        "state": work.state,
        "outputs": work.outputs,
        "lost": work.lost,
        "by": (work.fingerprint, work.task_try, work.holder, work.submission),
        "inputs": list(work.inputs),
        "actors": work.actors,
        "ttl": work.ttl,
        "ends": None if work.ttl is None or work.users or work.is_under_way else work.used_at + work.ttl,
    }


@pytest.fixture
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LOG_BYTES", MAX_LOG_BYTES)
    monkeypatch.setattr(records, "TAIL_BYTES", 200)
    monkeypatch.setattr(waiting, "MAX_UNREAD_BYTES", MAX_UNREAD_BYTES)
    monkeypatch.setattr(waiting, "MAX_PART_BYTES", 200)
    monkeypatch.setattr(waiting, "WATCH_UNREAD_BYTES", 200)


@pytest.fixture
def no_cluster() -> Iterator[None]:
    with without_cluster(), on_clock(clock):
        yield


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("small_logs", "no_cluster")
def test_owner_keeps_the_rules_whatever_is_asked_of_it_at_the_same_time():
    run_state_machine_as_test(OwnerMachine, settings=examples(200, 10_000, steps=25))
