"""Outputs that are lost, read again from their checkpoints."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure_of
from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.outputs import Outputs
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.record import Output
    from airflow_ray.cluster.owner.records import Records

# Of one that kills each process which reads it.
MAX_READS = 3


class Restoring:
    """Restores each output once, however many ask for it at the same time.

    :param records: of the owner.
    :param outputs: which keep what is restored.
    :param ray: what has Ray do it.
    """

    def __init__(self, records: Records, outputs: Outputs, ray: RayCalls) -> None:
        self._records = records
        self._outputs = outputs
        self._ray = ray
        self._tasks: dict[tuple[str, str], asyncio.Task[dict[str, Any] | None]] = {}
        self._targets: dict[tuple[str, str], dict[str, Any]] = {}

    def target(self, record_id: str, key: str) -> dict[str, Any] | None:
        """Return the target of a restore that is under way."""
        return self._targets.get((record_id, key))

    async def restore(
        self,
        record_id: str,
        key: str,
        target: dict[str, Any],
        runtime_env: dict[str, Any] | None,
        ttl: float | None,
    ) -> dict[str, Any] | None:
        """Read an output from its checkpoint unless it is there.

        :returns: None when it is there, or as plain data why it is not.
        """
        if self._outputs.find(record_id, key)[1] is None:
            return None
        name = record_id, key
        if name not in self._tasks:
            self._targets[name] = target
            self._tasks[name] = asyncio.get_running_loop().create_task(self._restore(name, runtime_env, ttl))
        # Whoever asked first may go away; the others wait on.
        return await asyncio.shield(self._tasks[name])

    async def _restore(
        self, name: tuple[str, str], runtime_env: dict[str, Any] | None, ttl: float | None
    ) -> dict[str, Any] | None:
        from ray.exceptions import RayError

        before = self._records.get(name[0])
        # Until it is taken, others who ask wait for this one.
        try:
            ref, (objects, description, error) = await self._read(name, runtime_env)
            if error is not None:
                return dict(error)
            output = await self._outputs.keep(ref, objects, description)
            async with self._records.lock(name[0]):
                # Run again, put or released meanwhile: what there is now is newer than the checkpoint. But where no
                # work has made what there is, each object came by itself.
                now = self._records.get(name[0])
                if now is before or (before is None and now is not None and now.task_id is None):
                    await self._take(name, output, ttl)
        except RayError as error:
            return failure_of(error)
        finally:
            del self._tasks[name], self._targets[name]
        return None

    async def _read(self, name: tuple[str, str], runtime_env: dict[str, Any] | None) -> Any:
        """Read a checkpoint, and once more where the process that read it was lost, or the connection to it."""
        from ray.exceptions import NodeDiedError, WorkerCrashedError

        for _ in range(MAX_READS - 1):
            with suppress(NodeDiedError, WorkerCrashedError):
                return await self._ray.restore(*name, runtime_env)
        return await self._ray.restore(*name, runtime_env)

    async def _take(self, name: tuple[str, str], output: Output, ttl: float | None) -> None:
        record_id, key = name
        record = self._records.get(record_id)
        if record is None:
            record = await self._records.create(record_id, {}, ttl)
            record.is_restored = True
            record.finish(State.SUCCEEDED)
        if record.state == State.SUCCEEDED and key not in record.refs:
            record.take_output(key, output)
            # Whoever has asked for it comes for it next.
            record.note_used()
            self._records.notify(record)
