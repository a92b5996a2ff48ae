"""What the owner has Ray do: the only calls of Ray's behind the classes that decide."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.nodes import nodes_without
from airflow_ray.cluster.own_tasks import own_task
from airflow_ray.cluster.owner import store
from airflow_ray.cluster.owner.cluster_look import take_look
from airflow_ray.cluster.owner.ray_objects import with_ray_objects
from airflow_ray.cluster.values.inner_objects import collected, value_around
from airflow_ray.cluster.worker import actors, placement_groups
from airflow_ray.cluster.worker.reading import sample_of, why_unreadable
from airflow_ray.cluster.worker.restorer import restore
from airflow_ray.cluster.worker.runner import run

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.cluster_look import Look
    from airflow_ray.cluster.owner.scheduling import Scheduling, Verdict

LOOK_TIMEOUT_SECONDS = 10.0
SPILL_TIMEOUT_SECONDS = 5.0
CHECK_THREADS = 4
REMOVE_AGAIN_SECONDS = 5.0


def _same(*values: Any) -> list[Any]:
    """Return ``values``: as a task of the owner's, this makes the owner the owner of others' objects.

    The last output tells the owner that the task succeeded, without a look at the others.
    """
    return [*values, True]


class RayCalls:
    """Tasks of the owner's, and what Ray's tables know of their outputs.

    A ref reaches a method of an actor inside a list only, since Ray replaces a ref that is an argument itself by its
    value. A remote function is made once: making one takes longer than calling it.

    :param owner: the handle of the owner, for its tasks.
    """

    def __init__(self, owner: Any) -> None:
        import ray

        self._owner = owner
        self._name = ray.get_runtime_context().get_actor_name()
        self._run = ray.remote(num_returns="streaming")(run)
        self._run_in_own_process = ray.remote(num_returns="streaming", max_calls=1)(run)
        self._copy = own_task(_same, num_cpus=0)
        self._restore = own_task(restore, num_returns=2)
        self._collected = own_task(collected, num_cpus=0)
        self._why_unreadable = own_task(why_unreadable, num_cpus=0, max_retries=0)
        self._sample_of = own_task(sample_of, num_cpus=0, max_retries=0)
        self._value_around = own_task(value_around, num_cpus=0, num_returns=2)
        self._removals: set[asyncio.Task[None]] = set()
        self._spill_sample: asyncio.Task[int | None] | None = None
        self._spill_sampled_at = float("-inf")
        # A node that does not answer holds up nothing else.
        self._spill_thread = ThreadPoolExecutor(1, thread_name_prefix="airflow-ray-spill")
        self._look_thread = ThreadPoolExecutor(1, thread_name_prefix="airflow-ray-look")
        self._check_threads = ThreadPoolExecutor(CHECK_THREADS, thread_name_prefix="airflow-ray-check")

    def start(self, options: dict[str, Any], ends_process: bool, *args: Any) -> Any:
        """Start the runner, and return the generator of its outputs.

        :param options: what ``RemoteFunction.options`` takes, as plain data.
        :param ends_process: no later work is to run in the same process.
        :param args: those of the runner after the owner's handle and name.
        """
        runner = self._run_in_own_process if ends_process else self._run
        return runner.options(**with_ray_objects(options)).remote(self._owner, self._name, *args)

    def task_id(self, generator: Any) -> str:
        """Return the id of the task that :meth:`start` has started."""
        return str(generator.completed().task_id().hex())

    def cancel(self, task: Any) -> None:
        """End a task with all it has started, by its generator or the ref of an output."""
        import ray

        ray.cancel(task, force=True, recursive=True)

    async def copy(self, refs: list[Any]) -> list[Any]:
        """Return copies of objects that lie on one node, which are the owner's own.

        :raises RayError: one of them is gone, or cannot be unpickled there.
        """
        copies: list[Any] = self._copy.options(num_returns=len(refs) + 1).remote(*refs)
        await copies.pop()
        return copies

    async def rebuild(self, apart: Any, objects: list[Any]) -> Any:
        """Return the ref of a value that was taken apart, put together again around ``objects``."""
        value, done = self._value_around.remote(apart, objects)
        await done
        return value

    async def why_unreadable(self, ref: Any, runtime_env: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return as plain data why a worker cannot unpickle an object; None where it can, or nobody knows."""
        from ray.exceptions import RayError

        try:
            reason: dict[str, Any] | None = await self._why_unreadable.options(runtime_env=runtime_env).remote([ref])
        except RayError:
            return None
        return reason

    async def sample(self, ref: Any, rows: int, runtime_env: dict[str, Any] | None) -> dict[str, Any]:
        """Return the first rows of an object as plain data, as a worker sees them where it lies.

        :raises RayError: it is gone, or cannot be unpickled there.
        """
        seen: dict[str, Any] = await self._sample_of.options(runtime_env=runtime_env).remote(ref, rows)
        return seen

    def collect(self, ref: Any) -> Any:
        """Return the ref of what somebody can use of a value who has no cluster."""
        return self._collected.remote(ref)

    async def restore(self, record_id: str, key: str, runtime_env: dict[str, Any] | None) -> tuple[Any, Any]:
        """Read a checkpoint on a worker, and return the ref of the value and what the restorer tells of it."""
        # Ray itself does not try again: it would keep the task for as long as the object, without credentials.
        restorer = self._restore.options(runtime_env=runtime_env, max_retries=0)
        ref, outcome = restorer.remote(self._owner, record_id, key)
        return ref, await outcome

    async def remove_groups(self, groups: list[Any]) -> None:
        """Give back what placement groups hold; where Ray does not do so now, it is asked again until it does."""
        if left := await asyncio.to_thread(placement_groups.remove, groups):
            removal = asyncio.get_running_loop().create_task(self._remove_later(left))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)

    async def _remove_later(self, groups: list[Any]) -> None:
        while groups:
            await asyncio.sleep(REMOVE_AGAIN_SECONDS)
            groups = await asyncio.to_thread(placement_groups.remove, groups)

    async def end_actors(self, states: list[bytes]) -> None:
        """End actors by the states of their handles."""
        await asyncio.to_thread(actors.end, states)

    def sizes(self, refs: list[Any]) -> list[int]:
        """Return the size of each object in bytes, 0 for one that Ray knows none of."""
        return store.sizes_of(refs)

    async def by_node(self, refs: list[Any]) -> list[list[Any]]:
        """Return the objects that lie on the same node together."""
        return await asyncio.to_thread(store.by_node, refs)

    async def places(self, refs: list[Any]) -> list[tuple[str | None, bool]]:
        """Return the node of each object and whether it was ever spilled."""
        return await asyncio.to_thread(store.places_of, refs)

    async def are_lost(self, refs: list[Any]) -> bool:
        """Whether one of the objects is gone for good."""
        return await asyncio.to_thread(store.are_lost, refs)

    async def are_there(self, refs: list[Any]) -> list[bool]:
        """Return whether each object is there, and Ray does not have to make it again."""
        return await asyncio.to_thread(store.are_there, refs)

    async def nodes_without(self, asked: dict[str, float]) -> list[dict[str, float]] | None:
        """Return what the nodes have if none of them has, or can get, the resources ``asked``, and else None."""
        return await asyncio.to_thread(nodes_without, asked)

    async def check(self, scheduling: Scheduling) -> Verdict:
        """Judge a pending request, for which nodes may be asked that do not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._check_threads, scheduling.check)

    async def look(self) -> Look | None:
        """Return who waits for resources in the cluster and who holds them; None where Ray does not say."""
        looking = asyncio.get_running_loop().run_in_executor(self._look_thread, take_look)
        try:
            return await asyncio.wait_for(looking, LOOK_TIMEOUT_SECONDS)
        # A head that is busy makes Ray raise whatever it likes. The next look may tell.
        except Exception:
            return None

    async def spilled_bytes(self, max_age: float) -> int | None:
        """Return how much all nodes have written to disk so far for lack of room, or None where Ray does not say.

        :param max_age: seconds since when the figure may be known.
        """
        if self._spill_sample is None or (
            self._spill_sample.done() and time.monotonic() > self._spill_sampled_at + max_age
        ):
            self._spill_sampled_at = time.monotonic()
            self._spill_sample = asyncio.get_running_loop().create_task(self._sample_spilled_bytes())
        # A figure for the log is not worth waiting for a node that does not answer.
        with suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._spill_sample), SPILL_TIMEOUT_SECONDS)
        return None

    async def _sample_spilled_bytes(self) -> int | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._spill_thread, store.spilled_bytes)
        # A node that has just died makes Ray raise whatever it likes. It is a figure for the log, no more.
        except Exception:
            return None
