"""What comes to the owner to be run or kept, and what becomes of it."""

from __future__ import annotations

import asyncio
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import failure, failure_of
from airflow_ray.cluster.owner.attaching import why_not
from airflow_ray.cluster.owner.attempt import Attempt
from airflow_ray.cluster.owner.environments import Environments
from airflow_ray.cluster.owner.record import MAX_DESCRIBED_INPUTS
from airflow_ray.cluster.owner.remaking import Remaking
from airflow_ray.cluster.owner.scheduling import ClusterView, Scheduling
from airflow_ray.cluster.owner.stall_watch import StallWatch
from airflow_ray.cluster.protocol import FailureKind, State, SubmitAnswer
from airflow_ray.cluster.redaction import redacted, secrets_in

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from airflow_ray.cluster.owner.outputs import Outputs
    from airflow_ray.cluster.owner.ray_calls import RayCalls
    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.owner.records import Records
    from airflow_ray.cluster.protocol import OutputNames, Sources, TaskTry

# What Submissions.attach takes.
ATTEMPT = ("fingerprint", "holder", "checkpoint", "storage", "task_try")


class Submissions:
    """Begins work, attaches to work that is there, and adopts objects of others.

    :param records: of the owner.
    :param outputs: of the owner.
    :param ray: what has Ray do it.
    """

    def __init__(self, records: Records, outputs: Outputs, ray: RayCalls) -> None:
        self._records = records
        self._outputs = outputs
        self._ray = ray
        self._view = ClusterView()
        self._environments = Environments()
        self._stalls = StallWatch(records, ray)
        self._attempts: dict[str, Attempt] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def attach(
        self,
        record_id: str,
        fingerprint: str | None,
        holder: str | None,
        checkpoint: dict[str, Any] | None,
        storage: dict[str, Any] | None,
        task_try: TaskTry | None = None,
    ) -> SubmitAnswer:
        """Go on with the same work of an earlier try that is under way or done; empty where there is none.

        The arguments are those of :meth:`submit`.
        """
        record = self._records.get(record_id)
        if record is not None and record.state == State.SUCCEEDED and record.fingerprint == fingerprint is not None:
            # What nobody has asked for since may be lost.
            for key in list(record.refs):
                await self._outputs.forget_if_lost(record_id, key)
        async with self._records.lock(record_id):
            return self._attach(record_id, fingerprint, holder, checkpoint, storage, task_try)

    async def submit(
        self,
        record_id: str,
        payload: bytes | list[Any],
        sources: Sources,
        inputs: list[tuple[str, str, str]],
        options: dict[str, Any],
        *,
        fingerprint: str | None = None,
        holder: str | None = None,
        task_try: TaskTry | None = None,
        submission: str | None = None,
        as_json: bool = False,
        names: OutputNames = (False, None),
        scheduling_timeout: float | None = None,
        checkpoint: dict[str, Any] | None = None,
        storage: dict[str, Any] | None = None,
        ends_process: bool = False,
        ttl: float | None = None,
        lent: Mapping[tuple[str, str], Any] = MappingProxyType({}),
    ) -> SubmitAnswer:
        """Run a pickled callable under ``record_id``, in place of any earlier work of that name.

        :param payload: the pickled callable, or where it is large its ref, or the name of its upload, in a list.
        :param inputs: record id and key of the object for each input slot, and ``store``, or ``checkpoint`` for
            one that had to be restored for this.
        :param options: what ``RemoteFunction.options`` takes, as plain data.
        :param fingerprint: tells the same work of another try; None always begins anew.
        :param holder: any text that tells who submits this, for :meth:`cancel`.
        :param task_try: which try of a task this is; None for work that is of none.
        :param submission: tells one call of this from all others: where it comes again, it has begun already.
        :param names: as for :func:`~airflow_ray.cluster.worker.runner.run`.
        :param scheduling_timeout: seconds in PENDING after which the work fails; None waits without limit.
        :param checkpoint: where the outputs are checkpointed: ``storage`` (arguments of ``Storage``), ``uri`` (what
            comes before the key in an object URI), ``keys`` to sign with, ``required`` (or best effort).
        :param storage: arguments of ``Storage`` for what the work itself writes and reads.
        :param ends_process: no later work is to run in the same process.
        :param ttl: seconds after the last use in which the outputs are released; None keeps them.
        :param lent: refs of inputs that the owners of other builds have, by record id and key.
        """
        async with self._records.lock(record_id):
            if self.has_begun(record_id, submission):
                return {}
            if answer := self._attach(record_id, fingerprint, holder, checkpoint, storage, task_try):
                return answer
            refs, error = self._input_refs(inputs, lent)
            if error is not None:
                return {"error": error}
            # Of the objects that these are the refs of: another try of theirs may end meanwhile.
            editions = self._records.editions(name for name, _, _ in inputs)
            pickled = await self._outputs.own(payload[0]) if isinstance(payload, list) else payload
            # Its holder may have been cancelled while its payload was on its way.
            if self._records.is_cancelled(holder):
                return {"error": failure(FailureKind.CANCELLED)}
            answer = self._why_anew(record_id, fingerprint, task_try, holder)
            record = await self._records.create(record_id, options, ttl)
            record.inputs, record.input_refs, record.input_editions = inputs, refs, editions
            # They may be released before this ends.
            record.input_outputs = self._outputs.described(inputs[:MAX_DESCRIBED_INPUTS])
            record.checkpoint, record.storage = checkpoint, storage
            record.fingerprint, record.holder, record.submission = fingerprint, holder, submission
            record.task_try = task_try
            for producer in self._records.producers(record):
                producer.users.add(record.attempt)
            is_checkpointed = checkpoint is not None
            work = (record_id, record.attempt, pickled, sources, as_json, names, is_checkpointed, *refs)
            try:
                record.generator = self._ray.start(options, ends_process, *work)
            # What Ray raises for options it does not take is anything, down to OverflowError.
            except Exception as error:
                await self._records.discard(record_id)
                message = redacted(str(error), secrets_in(options.get("runtime_env")))
                return {"error": failure(FailureKind.OPTIONS, message=message)}
            record.task_id = self._ray.task_id(record.generator)
            record.scheduling_timeout = scheduling_timeout
            self._follow(record)
            return answer

    def has_begun(self, record_id: str, submission: str | None) -> bool:
        """Whether the work of this submission is there already, whose answer was lost with a connection."""
        record = self._records.get(record_id)
        return submission is not None and record is not None and record.submission == submission

    async def adopt(
        self,
        record_id: str,
        key: str,
        refs: list[Any],
        objects: list[Any],
        description: dict[str, Any],
        ttl: float | None,
    ) -> dict[str, Any] | None:
        """Make a client's object, the only one in ``refs``, or the name of its upload, an output of ``record_id``.

        Other outputs of a record that has ended stay.

        :param objects: the refs of the Ray objects inside it, where it is taken apart.
        :param ttl: as for :meth:`submit`.
        :returns: None, or as plain data why it cannot be copied.
        """
        from ray.exceptions import RayError

        try:
            # What is put together again becomes the owner's own thereby.
            ref = refs[0] if objects else await self._outputs.own(refs[0])
            output = await self._outputs.keep(ref, objects, description)
        except RayError as error:
            return {**failure_of(error), "kind": FailureKind.NOT_READABLE.value}
        async with self._records.lock(record_id):
            record = self._records.get(record_id)
            if record is None or record.state != State.SUCCEEDED:
                record = await self._records.create(record_id, {}, ttl)
            # It is no longer what the work has made.
            record.fingerprint = None
            record.edition = uuid.uuid4().hex
            record.take_output(key, output)
            record.note_used()
            self._records.set_ttl(record, ttl)
            await self._records.finish(record, State.SUCCEEDED)
        return None

    async def announce_start(self, record_id: str, attempt: str, run_id: str, node: str, pid: int) -> None:
        """Take note that the runner has started.

        :param run_id: another one each time that Ray runs the work.
        """
        async with self._records.lock(record_id):
            record = self._records.current(record_id, attempt)
            # Ray may make the call again whose answer was lost.
            if record is None or run_id in record.announced:
                return
            record.announced.add(run_id)
            if not record.finished:
                await self._attempts[attempt].start(node, pid)
            # That of the run which has ended comes late where the callable is quick.
            elif run_id != record.run_id:
                record.note_rebuilt()

    async def cancel(self, record_id: str, holder: str | None) -> bool:
        """Stop the work of ``record_id`` with all it started; return whether there was any to stop.

        :param holder: stop it only if this one submitted it, or attached to it last. What it submits later does not
            begin.
        """
        if holder is not None:
            self._records.note_cancelled(holder)
        async with self._records.lock(record_id):
            record = self._records.get(record_id)
            if record is None or record.finished or (holder is not None and holder != record.holder):
                return False
            await self._records.stop(record, State.CANCELLED)
            return True

    def _attach(
        self,
        record_id: str,
        fingerprint: str | None,
        holder: str | None,
        checkpoint: dict[str, Any] | None,
        storage: dict[str, Any] | None,
        task_try: TaskTry | None,
    ) -> SubmitAnswer:
        if self._records.is_cancelled(holder):
            return {"error": failure(FailureKind.CANCELLED)}
        record = self._records.get(record_id)
        if record is None:
            return {}
        if self._why_not(record, fingerprint, task_try, holder) is not None:
            return {}
        record.holder, record.task_try = holder, task_try
        record.note_used()
        if not record.finished:
            # The credentials of an earlier try may have expired by now, or been changed.
            record.checkpoint, record.storage = checkpoint, storage
        return {"attached": record.state.value}

    def _why_not(
        self, record: Record, fingerprint: str | None, task_try: TaskTry | None, holder: str | None
    ) -> str | None:
        return why_not(record, fingerprint, task_try, holder, self._records.editions(record.input_editions))

    def _why_anew(
        self, record_id: str, fingerprint: str | None, task_try: TaskTry | None, holder: str | None
    ) -> SubmitAnswer:
        """Tell a retry why it begins anew though there is work that it might be expected to go on with."""
        record = self._records.get(record_id)
        is_retry = task_try is not None and task_try["number"] > 1
        if record is None or not is_retry or record.state in (State.FAILED, State.CANCELLED):
            return {}
        reason = self._why_not(record, fingerprint, task_try, holder)
        return {"anew": reason} if reason is not None else {}

    def _input_refs(
        self, inputs: list[tuple[str, str, str]], lent: Mapping[tuple[str, str], Any]
    ) -> tuple[list[Any], dict[str, Any] | None]:
        """Return the ref of each input, which keeps the object alive from here on, or why there is none."""
        names = [(record_id, key) for record_id, key, _ in inputs]
        found = [(lent[name], None) if name in lent else self._outputs.find(*name) for name in names]
        errors = [error for _, error in found if error is not None]
        if not errors:
            return [ref for ref, _ in found], None
        lost = [(each["record_id"], each["key"]) for each in errors if each["state"] in (None, State.LOST.value)]
        return [], {**errors[0], "lost": lost if len(lost) == len(errors) else []}

    def _follow(self, record: Record) -> None:
        attempt = Attempt(record, self._records, self._outputs, self._ray)
        self._attempts[record.attempt] = attempt
        scheduling = Scheduling(
            record.options, record.scheduling_timeout, self._view, self._environments, self._stalls.who_holds
        )
        self._stalls.begin()
        remaking = Remaking(record, self._records, self._ray)
        self._start(attempt.watch_scheduling(scheduling, remaking))
        following = self._start(attempt.follow())
        following.add_done_callback(lambda _: self._attempts.pop(record.attempt))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
