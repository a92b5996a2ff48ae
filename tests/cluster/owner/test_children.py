"""Whose log has what a task or actor writes that a callable has started."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from airflow_ray.cluster.owner import children
from airflow_ray.cluster.owner.children import Children
from airflow_ray.cluster.owner.record import Record
from airflow_ray.cluster.protocol import State
from tests.cluster.owner.fakes import FakeOwner


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 300))


async def work(owner: FakeOwner, known: Children, name: str) -> Record:
    await owner.submit(name)
    record = owner.records.get(name)
    record.task_id = f"task of {name}"
    known.note_work(record)
    return record


def test_children_of_children_are_of_the_same_work():
    async def test() -> None:
        owner = FakeOwner()
        known = Children(owner.records)
        one, other = [await work(owner, known, name) for name in ("d/r/one/-1", "d/r/other/-1")]
        await known.note(one.task_id, ["a"], [])
        await known.note("a", [], ["actor of a"])
        await known.note("actor of a", ["b"], [])
        await known.note(other.task_id, ["c"], [])
        assert [await known.record_of(child) for child in ("a", "actor of a", "b", "c")] == [one, one, one, other]

    run(test())


def test_lines_that_come_before_their_child_was_noted_wait_for_that():
    async def test() -> None:
        owner = FakeOwner()
        known = Children(owner.records)
        asked = asyncio.create_task(known.record_of("b"))
        noted = asyncio.create_task(known.note("a", ["b"], []))
        await asyncio.sleep(0)
        record = await work(owner, known, "d/r/t/-1")
        await known.note(record.task_id, ["a"], [])
        await noted
        assert await asked is record

    run(test())


def test_child_of_nobody_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(children, "KNOWN_SECONDS", 0.01)

    async def test() -> None:
        assert await Children(FakeOwner().records).record_of("a") is None

    run(test())


def test_child_of_work_in_whose_place_other_work_has_come_is_of_neither():
    async def test() -> None:
        owner = FakeOwner()
        known = Children(owner.records)
        before = await work(owner, known, "d/r/t/-1")
        await known.note(before.task_id, ["a"], [])
        await owner.submit("d/r/t/-1")
        await known.note("a", ["late"], [])
        assert [await known.record_of("a"), await known.record_of("late")] == [None, None]

    run(test())


def test_what_is_known_is_bounded_and_actors_outlive_any_number_of_tasks(monkeypatch):
    monkeypatch.setattr(children, "MAX_TASKS", 2)
    monkeypatch.setattr(children, "KNOWN_SECONDS", 0.01)

    async def test() -> None:
        owner = FakeOwner()
        known = Children(owner.records)
        record = await work(owner, known, "d/r/t/-1")
        await known.note(record.task_id, [], ["actor"])
        await known.note(record.task_id, ["a", "b", "c"], [])
        found = [await known.record_of(child) for child in ("a", "b", "c", "actor", record.task_id)]
        assert found == [None, record, record, record, record]

    run(test())


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, ["(one) warned of 1", "(one) warned of 2", "(two) warned of 1", "(two) warned of 2"]),
        ({"RAY_DEDUP_LOGS": "0"}, ["(one) warned of 1", "(one) warned of 2", "(two) warned of 1", "(two) warned of 2"]),
        ({"RAY_DEDUP_LOGS": "1"}, ["(one) warned of 1", "(one) warned of 2", "(two) warned of 2\x1b[32m [repeated 2x"]),
    ],
)
def test_lines_that_several_write_alike_are_told_once_where_that_is_asked_for(environment, shown):
    async def test() -> None:
        owner = FakeOwner()
        record = await owner.records.create("d/r/t/-1", {"runtime_env": {"env_vars": environment}}, None)
        for who in ("one", "two"):
            told = record.told_by(who, f"({who})", ["warned of 1", "warned of 2"], "WW")
            await owner.waiting.append_log(record, *told)
        await owner.records.finish(record, State.SUCCEEDED)
        part = record.log.read(0)
        assert [line.partition(" across")[0] for line in part.lines] == shown
        assert part.levels == "W" * len(shown)

    run(test())


def test_child_that_starts_thousands_is_not_forgotten_for_them(monkeypatch):
    async def test() -> None:
        monkeypatch.setattr(children, "MAX_TASKS", 10)
        owner = FakeOwner()
        known = Children(owner.records)
        one = await work(owner, known, "d/r/one/-1")
        await known.note(one.task_id, ["driver"], [])
        for number in range(30):
            await known.note("driver", [f"child {number}"], [])
        assert await known.record_of("driver") is one

    run(test())
