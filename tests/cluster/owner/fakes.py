"""The owner's plain classes with a Ray that does what a test tells it to, in place of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from airflow_ray.cluster.owner.outputs import Outputs
from airflow_ray.cluster.owner.records import Records
from airflow_ray.cluster.owner.restoring import Restoring
from airflow_ray.cluster.owner.submissions import Submissions
from airflow_ray.cluster.owner.waiting import Waiting
from airflow_ray.cluster.protocol import State

PAYLOAD = b"a call"
# One that is large. An upload would be known by a text.
PAYLOAD_REF = object()


class FakeTask:
    """A task that ends when a test says so."""

    def __init__(self, *work: Any) -> None:
        self.record_id, self.attempt, self.payload = work[:3]
        self._header: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._refs: list[Any] = []

    async def __anext__(self) -> asyncio.Future[dict[str, Any]]:
        return self._header

    async def completed(self) -> None:
        await self._ended.wait()

    def __iter__(self) -> Any:
        assert self._ended.is_set(), "A thread would wait for the outputs"
        return iter(self._refs)

    def end(self, error: dict[str, Any] | None = None, lost_object: bool = False, **outputs: Any) -> None:
        """End with an error, or with objects by their keys."""
        header = {"error": error, "lost_object": lost_object, "value_json": None, "node": "n", "pid": 1, "seconds": 0.0}
        header["run_id"] = "the run that ended"
        header["used"] = {"seconds": 2.0, "cpu_seconds": 1.0, "memory": 10, "gpu_memory": None, "gpu_total": None}
        header["outputs"] = {key: {"type": "object"} for key in outputs}
        header["objects"] = {key: [] for key in outputs}
        self._header.set_result(header)
        self._refs = [*outputs.values(), self._header]
        self._ended.set()

    def end_otherwise(self, *refs: Any, **outputs: Any) -> None:
        """End as a task does that Ray has run again: its first header told of ``outputs``, and ``refs`` are there."""
        self.end(**outputs)
        self._refs = list(refs)

    def break_off(self, error: Exception) -> None:
        """End as a task does whose process has died."""
        self._header.set_exception(error)
        self._ended.set()


class FakeRay:
    """Does what :class:`~airflow_ray.cluster.owner.ray_calls.RayCalls` does, without Ray."""

    def __init__(self) -> None:
        self.tasks: list[FakeTask] = []
        self.cancelled: list[Any] = []
        self.lost: set[str] = set()
        self.missing: set[str] = set()
        self.nodes: list[dict[str, float]] | None = None
        self.copy_gate = _open_gate()
        self.restore_gate = _open_gate()
        self.look_gate = _open_gate()
        self.restores = self.copies = 0
        self.restore_errors: list[Exception] = []
        self.size = 8
        self.spilled: list[int | None] = [0]
        self.unreadable: Exception | None = None
        self.reasons: dict[str, dict[str, Any]] = {}
        self.ended_actors: list[bytes] = []
        self.seen: Any = None

    def start(self, options: dict[str, Any], ends_process: bool, *work: Any) -> FakeTask:
        self.tasks.append(FakeTask(*work))
        return self.tasks[-1]

    def task_id(self, task: FakeTask) -> str:
        return "task"

    def cancel(self, task: Any) -> None:
        self.cancelled.append(task)

    async def copy(self, refs: list[Any]) -> list[Any]:
        self.copies += 1
        await self.copy_gate.wait()
        return [f"copy of {ref}" for ref in refs]

    async def by_node(self, refs: list[Any]) -> list[list[Any]]:
        return [refs]

    async def rebuild(self, apart: Any, objects: list[Any]) -> Any:
        if self.unreadable is not None:
            raise self.unreadable
        return f"{apart} around {objects}"

    async def restore(self, record_id: str, key: str, runtime_env: Any) -> tuple[Any, Any]:
        self.restores += 1
        await self.restore_gate.wait()
        if self.restore_errors:
            raise self.restore_errors.pop(0)
        return "restored", ([], {"type": "object"}, None)

    async def why_unreadable(self, ref: str, runtime_env: Any) -> dict[str, Any] | None:
        return self.reasons.get(ref)

    def sizes(self, refs: list[Any]) -> list[int]:
        return [self.size for _ in refs]

    async def are_lost(self, refs: list[Any]) -> bool:
        answer = bool(self.lost.intersection(refs))
        await self.look_gate.wait()
        return answer

    async def are_there(self, refs: list[Any]) -> list[bool]:
        return [ref not in self.missing for ref in refs]

    async def nodes_without(self, asked: dict[str, float]) -> list[dict[str, float]] | None:
        return self.nodes

    async def spilled_bytes(self, max_age: float) -> int | None:
        return self.spilled.pop(0) if len(self.spilled) > 1 else self.spilled[0]

    async def check(self, scheduling: Any) -> Any:
        return await asyncio.to_thread(scheduling.check)

    async def look(self) -> Any:
        return self.seen

    async def remove_groups(self, groups: list[Any]) -> None:
        pass

    async def end_actors(self, states: list[bytes]) -> None:
        self.ended_actors += states


class FakeOwner:
    """The parts of an owner, put together as its actor does."""

    def __init__(self) -> None:
        self.ray = FakeRay()
        self.records = Records(self.ray.cancel, self.ray.remove_groups, self.ray.end_actors)  # type: ignore[arg-type]
        self.waiting = Waiting(self.records)
        self.records.listen(self.waiting.notify, lambda: None)
        self.outputs = Outputs(self.records, self.ray, self._upload)  # type: ignore[arg-type]
        self.restoring = Restoring(self.records, self.outputs, self.ray)  # type: ignore[arg-type]
        self.submissions = Submissions(self.records, self.outputs, self.ray)  # type: ignore[arg-type]

    async def submit(self, record_id: str, payload: Any = PAYLOAD, inputs: Any = (), **more: Any) -> dict[str, Any]:
        answer = await self.submissions.submit(record_id, payload, {}, list(inputs), {"max_retries": 0}, **more)
        return dict(answer)

    async def make(self, record_id: str, ref: Any, key: str = "return_value") -> None:
        """Have an object as the output of work that has succeeded."""
        await self.submit(record_id)
        self.ray.tasks[-1].end(**{key: ref})
        await self.ended(record_id)

    async def ended(self, record_id: str) -> dict[str, Any]:
        """Return the record of work when it has ended."""
        while "record" not in (answer := await self.waiting.poll(record_id, None, 5.0)):
            assert answer["state"] != State.LOST
        return answer["record"]

    @staticmethod
    async def _upload(name: str) -> Any:
        return f"upload {name}"


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end, or let it fail where something waits for what never comes."""
    asyncio.run(asyncio.wait_for(test, 300))


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


async def until(is_so: Any) -> None:
    """Let other tasks run until something is so."""
    # What it waits for is a state of plain data, which has no event.
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0)
