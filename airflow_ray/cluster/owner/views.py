"""What people are shown of an owner's objects."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure_of
from airflow_ray.cluster.owner.calls import uncounted
from airflow_ray.cluster.owner.elders import GREETING_SECONDS

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.elders import Elders
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.records import Records

# In which somebody who has been told to come again does so.
KEPT_SECONDS = 60.0
# What one shows a person at a time; others are told to come again.
MAX_SAMPLES = 16


Found = tuple[list[Any], int, "dict[str, Any] | None"]


class Views:
    """The part of the owner that people look through, and change nothing by it."""

    _records: Records
    _ray: RayCalls
    _elders: Elders

    @cached_property
    def _samples(self) -> dict[tuple[str, str, int], asyncio.Task[dict[str, Any]]]:
        """The first rows that are being read, and those that somebody is yet to fetch."""
        return {}

    async def find(self, record_id: str, key: str, collect: bool = False) -> Found:
        """Return the ref of an output in a list, its bytes, and why there is none."""
        raise NotImplementedError

    async def look(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call another method for who only looks: that is no use of the owner, nor of its cluster."""
        return await uncounted(self, method)(*args, **kwargs)

    async def list_objects(self, dag: str | None = None, run: str | None = None) -> list[dict[str, Any]]:
        """Return a plain description of each output that is kept, and of work that has none, of a DAG and a run."""
        records = self._records.of(dag, run)
        refs = [ref for record in records for ref in record.refs.values()]
        places = dict(zip(refs, await self._ray.places(refs), strict=True))
        entries = [entry for record in records for entry in record.list_outputs(places)]
        answers = await self._elders.ask_all("list_objects", dag, run, seconds=GREETING_SECONDS)
        of_elders = [entry for answer in answers for entry in answer]
        return [*(each for each in of_elders if self._records.get(each["record_id"]) is None), *entries]

    async def sample(self, record_id: str, key: str, rows: int, timeout: float) -> dict[str, Any]:
        """Return the first rows of an output as :func:`~airflow_ray.cluster.values.sample.sample` does.

        :param timeout: seconds after which the answer is ``pending``; it is there for who asks again soon.
        :returns: in place of that, ``error`` tells as plain data why there is none.
        """
        name = record_id, key, rows
        loop = asyncio.get_running_loop()
        task = self._samples.get(name)
        if task is None:
            if len(self._samples) >= MAX_SAMPLES:
                return {"pending": True}
            task = self._samples[name] = loop.create_task(self._sample(*name))
            task.add_done_callback(lambda _: loop.call_later(KEPT_SECONDS, self._samples.pop, name, None))
        done, _ = await asyncio.wait([task], timeout=timeout)
        if not done:
            return {"pending": True}
        # The next who asks sees it as it is then.
        self._samples.pop(name, None)
        return task.result()

    async def _sample(self, record_id: str, key: str, rows: int) -> dict[str, Any]:
        from ray.exceptions import RayError

        refs, _, error = await self.find(record_id, key)
        if error is not None:
            return {"error": error}
        record = self._records.get(record_id)
        try:
            return await self._ray.sample(refs[0], rows, record.options.get("runtime_env") if record else None)
        except RayError as raised:
            return {"error": failure_of(raised)}
