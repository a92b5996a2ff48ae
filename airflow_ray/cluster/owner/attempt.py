"""One attempt of a piece of work, from its start to its end."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure, failure_of
from airflow_ray.cluster.owner.out_of_memory import with_surroundings
from airflow_ray.cluster.protocol import FailureKind, State

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.outputs import Outputs
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.record import Output, Record
    from airflow_ray.cluster.owner.records import Records
    from airflow_ray.cluster.owner.remaking import Remaking
    from airflow_ray.cluster.owner.scheduling import Scheduling

# What is smaller does not fill a store.
SPILL_CHECK_BYTES = 1_000_000


class Attempt:
    """Follows the task of one record, and settles the record when it has ended.

    What it learns of an attempt that another has replaced is dropped.

    :param record: which is its own.
    :param records: of the owner.
    :param outputs: which keep what the task leaves.
    :param ray: what has Ray do it.
    """

    def __init__(self, record: Record, records: Records, outputs: Outputs, ray: RayCalls) -> None:
        self._record = record
        self._records = records
        self._outputs = outputs
        self._ray = ray

    async def follow(self) -> None:
        """Take the headers and the outputs as they come, and settle the record."""
        from ray.exceptions import TaskCancelledError

        try:
            await self._follow()
        except TaskCancelledError:
            await self._settle(State.CANCELLED)
        # Whatever it is, the record must end: somebody waits for it.
        except Exception as error:
            await self._fail(failure_of(error))

    async def watch_scheduling(self, scheduling: Scheduling, remaking: Remaking) -> None:
        """Say what the work waits for while it is PENDING, and fail it when that cannot come or takes too long."""
        record = self._record
        while True:
            await asyncio.sleep(scheduling.next_check_seconds())
            # Nearly all work runs, or has ended, before it is looked at for the first time.
            if not self._is_pending():
                return
            verdict = await remaking.check(scheduling.is_late())
            if verdict is None:
                verdict = await self._ray.check(scheduling)
            async with self._records.lock(record.record_id):
                if not self._is_pending():
                    return
                if verdict.error is not None:
                    if verdict.error["kind"] == FailureKind.INPUT_LOST:
                        await remaking.give_up()
                    await self._records.stop(record, State.FAILED, verdict.error)
                else:
                    record.detail = verdict.detail
                    self._records.notify(record)

    async def start(self, node: str, pid: int) -> None:
        """Take note that the runner has started; the caller holds the lock of the record."""
        record = self._record
        record.starts += 1
        record.state, record.detail = State.RUNNING, None
        # Ray tries a task again without end when the memory monitor killed it.
        if 0 <= record.options["max_retries"] < record.starts - 1:
            error = self._told(failure(FailureKind.OUT_OF_MEMORY, starts=record.starts - 1))
            await self._records.stop(record, State.FAILED, error)
        record.node, record.pid, record.started_at = node, pid, time.time()
        # Of an earlier start, whose process died; this one has made none yet.
        await self._records.end_belongings(record)
        self._records.notify(record)

    def _is_pending(self) -> bool:
        return self._record.state == State.PENDING

    async def _follow(self) -> None:
        from ray.exceptions import RayError

        record, generator = self._record, self._record.generator
        # Ray goes on spilling when the work that filled the store has ended: that counts to whatever comes next.
        spilled_before = asyncio.ensure_future(self._ray.spilled_bytes(max_age=math.inf))
        try:
            header = await (await anext(generator))
        except RayError as error:
            await self._fail(await self._failure_before_the_callable(error))
            return
        refs = await self._rest(generator)
        header = await self._last_header(header, refs)
        if header["error"] is None:
            record.made = list(header["objects"])
        record.run_id, record.node, record.pid = header["run_id"], header["node"], header["pid"]
        record.seconds, record.used = header["seconds"], header["used"]
        record.read_bytes = self._read_bytes()
        self._note_lineage()
        if header["error"] is not None:
            await self._fail(header["error"], has_lost_object=header["lost_object"])
        else:
            await self._succeed(header, refs, await spilled_before)

    async def _rest(self, generator: Any) -> list[Any]:
        """Return the refs of all that comes behind the header, as soon as the work has ended."""
        from ray.exceptions import RayError

        # To iterate asynchronously would fetch and unpickle each output: Ray waits for it by awaiting it. A thread that
        # waited would be one of a few, for as long as the outputs are written.
        with suppress(RayError):
            await generator.completed()
        return await asyncio.to_thread(list, generator)

    async def _last_header(self, first: dict[str, Any], refs: list[Any]) -> dict[str, Any]:
        """Return the header of the run that has ended, which may not be the one that began.

        :raises RayError: the stream has ended in it.
        """
        is_whole = len(refs) == len(first["objects"]) + 1
        # The first run can only have left an error there, but another one an output, of the user's classes.
        if is_whole or (refs and (self._record.starts < 2 or await self._ray.are_lost(refs[-1:]))):
            header: dict[str, Any] = await refs[-1]
            return header
        message = "Ray ran the work again when its process had died, and this time it ended with other outputs"
        return {**first, "error": failure(FailureKind.WORKER_CRASHED, message=message), "lost_object": False}

    def _read_bytes(self) -> int | None:
        """Return the sizes of the inputs together, or None where one of them is of another owner, or was released."""
        read = 0
        for record_id, key, _ in self._record.inputs:
            producer = self._records.get(record_id)
            size = None if producer is None else producer.outputs.get(key, {}).get("bytes")
            if size is None:
                return None
            read += size
        return read

    async def _failure_before_the_callable(self, error: Exception) -> dict[str, Any]:
        """Return why the runner came to no header: its inputs are unpickled before it begins, by code of the user's."""
        from ray.exceptions import TaskCancelledError

        if isinstance(error, TaskCancelledError):
            raise error
        told = failure_of(error)
        if told["kind"] not in (FailureKind.NOT_PICKLABLE, FailureKind.RAY):
            return told
        for record_id, key, _ in self._record.inputs:
            producer = self._records.get(record_id)
            if producer is None or key not in producer.refs:
                continue
            reason = await self._ray.why_unreadable(producer.refs[key], self._record.options.get("runtime_env"))
            if reason is not None:
                return failure(FailureKind.INPUT_NOT_READABLE, **reason, record_id=record_id, key=key)
        return {**told, "kind": FailureKind.RAY.value}

    def _note_lineage(self) -> None:
        record = self._record
        for number, (record_id, key, source) in enumerate(record.inputs):
            producer = self._records.get(record_id)
            # Ray may have begun as soon as it had noticed the loss, before this work was submitted.
            if source == "store" and producer is not None and producer.rebuilt_at:
                record.inputs[number] = record_id, key, "lineage"

    async def _succeed(self, header: dict[str, Any], refs: list[Any], spilled_before: int | None) -> None:
        from ray.exceptions import RayError

        kept: dict[str, Output] = {}
        try:
            for (key, inside), ref in zip(header["objects"].items(), refs, strict=False):
                kept[key] = await self._outputs.keep(ref, inside, header["outputs"][key])
        except RayError as error:
            # A package is missing where the value is put together again, or else the process that ran the callable
            # has died before what is inside its outputs was copied.
            await self._fail(_output_failure(error))
            return
        spilled = await self._spilled_since(spilled_before, kept)
        record = self._record
        async with self._records.lock(record.record_id):
            if self._records.is_current(record) and not record.finished:
                record.outputs, record.value_json = header["outputs"], header["value_json"]
                record.spilled_bytes = spilled
                record.written_bytes = sum(output.description["bytes"] for output in kept.values())
                for key, output in kept.items():
                    record.take_output(key, output)
                await self._records.finish(record, State.SUCCEEDED)

    async def _spilled_since(self, before: int | None, kept: dict[str, Output]) -> int:
        """Return how much was written to disk since the work began, for outputs that can fill a store."""
        self._records.totals.note_spilled(before)
        if before is None or sum(output.description["bytes"] for output in kept.values()) <= SPILL_CHECK_BYTES:
            return 0
        now = await self._ray.spilled_bytes(max_age=0.0)
        self._records.totals.note_spilled(now)
        # A node that has gone takes its part of the sum along.
        return max(0, now - before) if now is not None else 0

    async def _fail(self, error: dict[str, Any], has_lost_object: bool = False) -> None:
        try:
            if has_lost_object or error["kind"] == FailureKind.INPUT_LOST:
                # The callable may have lost an object of its own, which no input is to blame for.
                is_of_input = error["kind"] == FailureKind.INPUT_LOST
                inputs = list(self._record.inputs)
                lost = [(name, key) for name, key, _ in inputs if await self._is_lost(name, key, is_of_input)]
                if lost:
                    error = {**error, "kind": FailureKind.INPUT_LOST.value, "lost": lost}
            error = self._told(error)
        # Whatever Ray says of the inputs, the record must end.
        finally:
            await self._settle(State.FAILED, error)

    def _told(self, error: dict[str, Any]) -> dict[str, Any]:
        """Return a failure with what is known of who else was there, where that matters."""
        return with_surroundings(error, self._record, self._records.of(None, None))

    async def _is_lost(self, record_id: str, key: str, or_released: bool) -> bool:
        """Whether an input is gone, also where another consumer has found that first.

        :param or_released: whether one that somebody has released meanwhile counts.
        """
        await self._outputs.forget_if_lost(record_id, key)
        producer = self._records.get(record_id)
        if producer is None or (key not in producer.refs and key not in producer.lost):
            return or_released
        return key in producer.lost

    async def _settle(self, state: State, error: dict[str, Any] | None = None) -> None:
        async with self._records.lock(self._record.record_id):
            await self._records.finish(self._record, state, error)


def _output_failure(error: Exception) -> dict[str, Any]:
    told = failure_of(error)
    if told["kind"] == FailureKind.NOT_PICKLABLE:
        return {**told, "kind": FailureKind.NOT_READABLE.value}
    return failure(FailureKind.WORKER_CRASHED, message=str(error))
