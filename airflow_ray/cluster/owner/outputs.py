"""The objects that are the owner's: how they become its own, and whether they are still there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.owner.record import Output
from airflow_ray.cluster.protocol import FailureKind, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.records import Records


class Outputs:
    """Keeps objects for records.

    :param records: of the owner.
    :param ray: what has Ray do it.
    :param take_upload: returns the ref of a value that came in pieces under a name.
    """

    def __init__(self, records: Records, ray: RayCalls, take_upload: Callable[[str], Awaitable[Any]]) -> None:
        self._records = records
        self._ray = ray
        self._take_upload = take_upload

    async def own(self, ref: Any) -> Any:
        """Return an object of the owner's own: a copy of a client's, or what came in pieces under the name ``ref``."""
        if isinstance(ref, str):
            return await self._take_upload(ref)
        (copy,) = await self._ray.copy([ref])
        return copy

    async def keep(self, ref: Any, objects: list[Any], description: dict[str, Any]) -> Output:
        """Return an object as an output, with its size in bytes.

        :param objects: the refs of the Ray objects inside it, around which it is put together again.
        :raises RayError: what is inside is gone.
        """
        if objects:
            ref, objects = await self._rebuild(ref, objects)
        return Output(ref, objects, {**description, "bytes": sum(self._ray.sizes([ref, *objects]))})

    def find(self, record_id: str, key: str) -> tuple[Any, dict[str, Any] | None]:
        """Return the ref of an output, or None and as plain data why there is none."""
        record = self._records.get(record_id)
        if record is None or key in record.lost or (record.is_restored and key not in record.refs):
            state = None if record is None else State.LOST.value
            return None, failure(FailureKind.NO_OBJECT, record_id=record_id, key=key, state=state)
        if key not in record.refs or record.state != State.SUCCEEDED:
            state = record.state.value
            return None, failure(FailureKind.NO_OBJECT, record_id=record_id, key=key, state=state)
        record.note_used()
        return record.refs[key], None

    def described(self, names: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """Return the description of each output, empty for one of another owner.

        :param names: record id and key of each, and what is not asked for here.
        """
        records = ((self._records.get(record_id), key) for record_id, key, _ in names)
        return [{} if record is None else record.outputs.get(key, {}) for record, key in records]

    async def forget_if_lost(self, record_id: str, key: str) -> bool:
        """Find out whether an output is lost, so that it can be restored, and return whether it is."""
        # Ray is asked without the lock: lose_output sees whether another object has come in its place meanwhile.
        record = self._records.get(record_id)
        ref = None if record is None else record.refs.get(key)
        if record is None or ref is None or not await self._ray.are_lost([ref, *record.objects[key]]):
            return False
        is_lost = record.lose_output(key, ref)
        self._records.count(record)
        return is_lost

    async def _rebuild(self, apart: Any, objects: list[Any]) -> tuple[Any, list[Any]]:
        """Return a value that was taken apart as a whole, and the objects inside it, all of them the owner's own."""
        copies = dict(zip(objects, objects, strict=True))
        for there in await self._ray.by_node(objects):
            copies.update(zip(there, await self._ray.copy(there), strict=True))
        return await self._ray.rebuild(apart, list(copies.values())), list(copies.values())
