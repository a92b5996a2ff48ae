"""Whether somebody waits for objects that were lost, which Ray is to make again, and whether Ray can."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.owner.record import task_text
from airflow_ray.cluster.owner.scheduling import Verdict, requested_resources
from airflow_ray.cluster.owner.stalls import RETURN_SECONDS
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records

# Who waits for an object asks more often; what was known of an earlier wait says nothing of the next.
FORGET_SECONDS = 60.0


class Consumer(Protocol):
    """Who waits for objects: a record, or somebody who gets one.

    ``inputs`` are record id, key and source of each, ``input_refs`` their refs, and ``scheduling_timeout`` the seconds
    that it waits for resources, or None.
    """

    inputs: list[tuple[str, str, str]]
    input_refs: list[Any]
    scheduling_timeout: float | None


class Remaking:
    """Judges from time to time the inputs of one consumer that waits.

    Ray runs work once more when its output was lost with a node and somebody needs it. Where no node has what that work
    asks for, Ray waits without end, and with it whoever needs the output.

    :param consumer: the record of work that is pending or is to run again, or who gets an object.
    :param records: of the owner.
    :param ray: what has Ray do it.
    """

    def __init__(self, consumer: Consumer, records: Records, ray: RayCalls) -> None:
        self._consumer = consumer
        self._records = records
        self._ray = ray
        self._since: float | None = None
        self._missing: list[tuple[str, str, Any]] = []

    async def check(self, is_late: bool) -> Verdict | None:
        """Return what has to be made again, or the error where nobody can; None where there is nothing to say of it.

        :param is_late: whether the work has waited for as long as it may.
        """
        # A head that is busy or being replaced makes Ray raise whatever it likes. The next check may tell.
        with suppress(Exception):
            return await self._judge(is_late)
        return None

    async def give_up(self) -> None:
        """Have the inputs that are still missing be lost: the next try takes them from their checkpoints.

        The caller holds the lock of the record that waits, if it is one, and has seen that it still does.
        """
        missing: list[tuple[str, str, Any]] = []
        # Where Ray does not tell, none is given up.
        with suppress(Exception):
            missing = await self._missing_inputs()
        self._consumer.input_refs.clear()
        for record_id, key, ref in missing:
            producer = self._records.get(record_id)
            if producer is not None and producer.lose_output(key, ref):
                self._records.count(producer)
                self._cancel(producer, ref)

    async def _judge(self, is_late: bool) -> Verdict | None:
        self._missing = await self._missing_inputs()
        if not self._missing:
            self._since = None
            return None
        self._since = self._since or time.monotonic()
        if any(self._is_given_up(*each) for each in self._missing):
            return self._lost("it could not be made again")
        maker = await self._maker(self._consumer, set())
        if maker is None:
            return None
        asked = requested_resources(maker.options)
        task = task_text(maker.record_id)
        nodes = await self._ray.nodes_without(asked)
        if nodes is None:
            # That it takes too long is judged by others.
            return None if is_late else Verdict(f"{task} to make an object again that was lost")
        timeout = self._consumer.scheduling_timeout
        if is_late or time.monotonic() - self._since >= (RETURN_SECONDS if timeout is None else timeout):
            return self._lost(f"{task} would have to make it again, and asks for {asked}, while the nodes have {nodes}")
        return Verdict(f"{task} to make an object again that was lost; it asks for {asked}, which no node has yet")

    def _cancel(self, producer: Record, ref: Any) -> None:
        """Keep work from being run again for nobody, when a node comes; the other outputs of it that are there stay."""
        is_awaited = any(ref in record.input_refs for record in self._records.of(None, None))
        if not producer.refs and not is_awaited:
            self._ray.cancel(ref)

    async def _missing_inputs(self) -> list[tuple[str, str, Any]]:
        refs = list(self._consumer.input_refs)
        there = await self._ray.are_there(refs) if refs else []
        inputs = zip(self._consumer.inputs, refs, there, strict=False)
        return [(record_id, key, ref) for (record_id, key, _), ref, is_there in inputs if not is_there]

    def _is_given_up(self, record_id: str, key: str, ref: Any) -> bool:
        """Whether somebody else who waits has given it up, and it may have come from its checkpoint since."""
        producer = self._records.get(record_id)
        return producer is not None and producer.refs.get(key) is not ref

    async def _maker(self, consumer: Consumer, seen: set[str]) -> Record | None:
        """Return the record of the work that is to run first, or None where all inputs are there."""
        for record_id, key, _ in consumer.inputs:
            producer = self._records.get(record_id)
            ref = None if producer is None else producer.refs.get(key)
            if producer is None or ref is None or record_id in seen:
                continue
            seen.add(record_id)
            (is_there,) = await self._ray.are_there([ref])
            if not is_there:
                return await self._maker(producer, seen) or producer
        return None

    def _lost(self, message: str) -> Verdict:
        lost = [(record_id, key) for record_id, key, _ in self._missing]
        return Verdict(error=_failure(message, lost))


def _failure(message: str, lost: list[tuple[str, str]]) -> dict[str, Any]:
    return failure(FailureKind.INPUT_LOST, message=message, lost=lost)


@dataclass
class _Getter:
    """Somebody who gets an object."""

    inputs: list[tuple[str, str, str]]
    input_refs: list[Any]
    scheduling_timeout: float | None = None


@dataclass
class _Wait:
    """That somebody waits for an object, who asked for the last time at ``asked_at`` of the monotonic clock."""

    ref: Any
    remaking: Remaking
    asked_at: float


class Gets:
    """Judges objects that somebody gets, whenever they ask why they have to wait.

    :param records: of the owner.
    :param ray: what has Ray do it.
    """

    def __init__(self, records: Records, ray: RayCalls) -> None:
        self._records = records
        self._ray = ray
        self._waits: dict[tuple[str, str], _Wait] = {}

    async def check(self, record_id: str, key: str) -> Verdict:
        """Return what an output waits for, or the error where nobody can make it again: it is lost from then on."""
        record = self._records.get(record_id)
        if record is None or key not in record.refs:
            is_lost = record is not None and key in record.lost
            return Verdict(error=_failure("it could not be made again", [(record_id, key)]) if is_lost else None)
        remaking = self._remaking(record_id, key, record.refs[key])
        verdict = await remaking.check(is_late=False) or Verdict()
        if verdict.error is not None:
            await remaking.give_up()
        return verdict

    def _remaking(self, record_id: str, key: str, ref: Any) -> Remaking:
        self._forget()
        # What holds a ref keeps an object in the store, also one that is released meanwhile.
        asyncio.get_running_loop().call_later(FORGET_SECONDS + 1.0, self._forget)
        now = time.monotonic()
        wait = self._waits.get((record_id, key))
        if wait is None or wait.ref is not ref:
            getter = _Getter([(record_id, key, "store")], [ref])
            wait = self._waits[record_id, key] = _Wait(ref, Remaking(getter, self._records, self._ray), now)
        wait.asked_at = now
        return wait.remaking

    def _forget(self) -> None:
        """Forget those who have not asked for a while."""
        now = time.monotonic()
        self._waits = {name: wait for name, wait in self._waits.items() if now - wait.asked_at < FORGET_SECONDS}
