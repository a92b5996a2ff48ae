"""The owner itself, as its actor is, on a Ray that keeps a ledger of what it was told to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_ray.cluster.owner import actor, submissions
from airflow_ray.cluster.owner.actor import Owner
from tests.cluster.owner.fakes import FakeRay, FakeTask

# What a checkpoint is asked for with.
TARGET = {"path": "somewhere"}


class LedgerRay(FakeRay):
    """Each thing that it does takes a turn of the loop, in which others have theirs.

    ``checkpoints`` maps record id and key to what is there, ``begun`` counts by record id how often work has begun,
    ``under_way`` is the work that takes resources at the moment.
    """

    def __init__(self, checkpoints: dict[tuple[str, str], str]) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.begun: Counter[str] = Counter()
        self.under_way: list[FakeTask] = []
        self.started: list[FakeTask] = []

    def start(self, options: dict[str, Any], ends_process: bool, *work: Any) -> FakeTask:
        task = super().start(options, ends_process, *work)
        self.begun[task.record_id] += 1
        self.under_way.append(task)
        return task

    def task_id(self, task: FakeTask) -> str:
        return f"task {self.tasks.index(task)}"

    def cancel(self, task: FakeTask) -> None:
        from ray.exceptions import TaskCancelledError

        super().cancel(task)
        if task in self.under_way:
            self.under_way.remove(task)
            task.break_off(TaskCancelledError())
            # It may have been cancelled before anybody has begun to wait for it.
            task._header.exception()

    def work_of(self, record_id: str) -> FakeTask | None:
        """Return the work under way under a name."""
        tasks = [task for task in self.under_way if task.record_id == record_id]
        assert len(tasks) <= 1, f"{record_id} runs {len(tasks)} times at once"
        return tasks[0] if tasks else None

    def end(self, task: FakeTask, error: dict[str, Any] | None = None, **outputs: Any) -> None:
        """Let work end by itself."""
        self.under_way.remove(task)
        task.end(error, **outputs)

    async def copy(self, refs: list[Any]) -> list[Any]:
        await asyncio.sleep(0)
        return await super().copy(refs)

    async def restore(self, record_id: str, key: str, runtime_env: Any) -> tuple[Any, Any]:
        self.restores += 1
        await asyncio.sleep(0)
        await self.restore_gate.wait()
        if (record_id, key) not in self.checkpoints:
            return None, ([], {}, {"kind": "checkpoint_not_found", "where": key, "message": "there is none"})
        return self.checkpoints[record_id, key], ([], {"type": "object"}, None)

    async def are_lost(self, refs: list[Any]) -> bool:
        await asyncio.sleep(0)
        return await super().are_lost(refs)

    async def places(self, refs: list[Any]) -> list[tuple[str | None, bool]]:
        await asyncio.sleep(0)
        return [(None, False) for _ in refs]

    async def end_actors(self, states: list[bytes]) -> None:
        await asyncio.sleep(0)
        await super().end_actors(states)


class _NoDashboard:
    async def page(self, task_id: str) -> dict[str, str]:
        return {"address": "", "job_id": "", "task_id": task_id}


class _View:
    def take(self) -> tuple[list[dict[str, float]], dict[str, float]]:
        return [{"CPU": 1.0}], {"CPU": 0.0}


class _Context:
    current_actor = None


@contextmanager
def without_cluster() -> Iterator[None]:
    """Let :func:`owner_on` make owners."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get_runtime_context", _Context)
        patch.setattr(actor, "RayCalls", lambda _: None)
        patch.setattr(actor, "Dashboard", _NoDashboard)
        patch.setattr(actor, "other_owners", list)
        patch.setattr(submissions, "ClusterView", _View)
        yield


def owner_on(ray: LedgerRay) -> Owner:
    """Return an owner; where there is a loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actor, "RayCalls", lambda _: ray)
        return Owner("1.0", "digest")


def left_in(owner: Owner) -> dict[str, int]:
    """Return how much is left in each place where the owner keeps something of records, where there is any.

    Which work children are of stays known for a while after that has gone, and so do cancelled holders: both are
    bounded.
    """
    records, waiting, restoring = owner._records, owner._waiting, owner._restoring
    kept: dict[str, Any] = {
        "records": records._records,
        "locks": records._locks,
        "expiries": records._expiries,
        "watchers": waiting._latest_watch,
        "restores": [*restoring._tasks, *restoring._targets],
        "attempts": owner._submissions._attempts,
        "uploads": owner._transfers._uploads,
        "log bytes": range(records._log_bytes),
    }
    return {name: len(things) for name, things in kept.items() if len(things)}
