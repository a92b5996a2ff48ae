"""What people are shown of an owner's objects, with a Ray that answers when a test says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from airflow_ray.cluster.owner import views
from airflow_ray.cluster.owner.views import Views
from airflow_ray.cluster.protocol import FailureKind


class Shown(Views):
    """The owner of one object, which is read as soon as ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.reads = 0
        self.error = None
        self._records = {"there": SimpleNamespace(options={"runtime_env": {"env_vars": {"A": "1"}}})}
        self._ray = SimpleNamespace(sample=self.read)

    async def find(self, record_id, key, collect=False):
        return ([record_id], 8, None) if record_id in self._records else ([], 0, {"kind": "no_object"})

    async def read(self, ref, rows, runtime_env):
        self.reads += 1
        await self.gate.wait()
        return {"ref": ref, "rows": rows, "runtime_env": runtime_env}


def test_object_is_read_in_the_environment_of_its_task():
    async def scene():
        shown = Shown()
        shown.gate.set()
        return await shown.sample("there", "key", 5, 10)

    assert asyncio.run(scene()) == {"ref": "there", "rows": 5, "runtime_env": {"env_vars": {"A": "1"}}}


def test_object_that_takes_long_is_read_once_however_often_somebody_asks():
    async def scene():
        shown = Shown()
        early = [await shown.sample("there", "key", 5, 0) for _ in range(3)]
        shown.gate.set()
        return early, await shown.sample("there", "key", 5, 10), shown.reads

    early, late, reads = asyncio.run(scene())
    assert (early, late["ref"], reads) == ([{"pending": True}] * 3, "there", 1)


def test_object_that_was_shown_is_read_anew_for_who_asks_again():
    async def scene():
        shown = Shown()
        shown.gate.set()
        for _ in range(2):
            await shown.sample("there", "key", 5, 10)
        return shown.reads

    assert asyncio.run(scene()) == 2


def test_few_objects_are_read_at_a_time(monkeypatch):
    monkeypatch.setattr(views, "MAX_SAMPLES", 2)

    async def scene():
        shown = Shown()
        for rows in range(4):
            await shown.sample("there", "key", rows, 0)
        reads = shown.reads
        shown.gate.set()
        return reads, await shown.sample("there", "key", 0, 10)

    reads, first = asyncio.run(scene())
    assert (reads, first["rows"]) == (2, 0)


def test_answer_that_nobody_fetches_is_forgotten(monkeypatch):
    monkeypatch.setattr(views, "KEPT_SECONDS", 0)

    async def scene():
        shown = Shown()
        await shown.sample("there", "key", 5, 0)
        shown.gate.set()
        # Until the reading has ended, its end was told, and what was told is forgotten.
        for _ in range(10):
            await asyncio.sleep(0.001)
        await shown.sample("there", "key", 5, 10)
        return shown.reads

    assert asyncio.run(scene()) == 2


def test_object_that_is_not_there_is_told():
    assert asyncio.run(Shown().sample("gone", "key", 5, 10)) == {"error": {"kind": FailureKind.NO_OBJECT.value}}
