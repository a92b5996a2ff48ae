"""The detached actor that submits the work of one namespace and so owns the results.

An object on Ray lives as long as the process that submitted its task: were that the Airflow worker,
each result would die with the Airflow task that made it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from contextlib import suppress
from typing import Any

from airflow_ray.cluster.failures import failure, failure_of
from airflow_ray.cluster.owner import store
from airflow_ray.cluster.owner.record import Output, Record
from airflow_ray.cluster.owner.scheduling import ClusterView, Scheduling
from airflow_ray.cluster.owner.transfers import Transfers
from airflow_ray.cluster.protocol import FailureKind, State
from airflow_ray.cluster.values.inner_objects import collected, value_around
from airflow_ray.cluster.worker import placement_groups
from airflow_ray.cluster.worker.restorer import restore
from airflow_ray.cluster.worker.runner import run

MAX_UNREAD_BYTES = 2 * 1024 * 1024


# A watcher hears of lines at the end of its interval, and at once of so many.
WATCH_UNREAD_BYTES = 256 * 1024


MAX_WATCH_BYTES = 4 * 1024 * 1024


FOLLOWER_GONE_SECONDS = 30.0


DASHBOARD_SECONDS = 1.0


# What is smaller does not fill a store.
SPILL_CHECK_BYTES = 1_000_000


def _same(*values: Any) -> list[Any]:
    """Return ``values``: as a task of the owner's, this makes the owner the owner of others' objects.

    The last output tells the owner that the task succeeded, without a look at the others.
    """
    return [*values, True]


async def _answering(address: str | None) -> str:
    """Return ``address`` if somebody listens there, or else an empty text: Ray names one without a dashboard too."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():
        return ""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), DASHBOARD_SECONDS)
    except (OSError, asyncio.TimeoutError):
        return ""
    writer.close()
    return f"{host}:{port}"


def _is_of(parts: list[str], dag: str | None, run: str | None) -> bool:
    return dag in (None, parts[0]) and run in (None, parts[1])


def _touch(value: Any) -> None:
    """Do nothing: as a task, this fails where ``value`` is lost."""


class Owner:
    """Submits work, keeps a record of each piece and the refs of its outputs, and answers about them.

    It never unpickles user code. A ref reaches it inside a list only, since Ray replaces a ref that is
    an argument itself by its value, and leaves it in a list only.
    """

    def __init__(self) -> None:
        import ray

        self._records: dict[str, Record] = {}
        self._watch_news = asyncio.Condition()
        self._watch_calls = itertools.count()
        self._latest_watch: dict[str, int] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._restoring: dict[tuple[str, str], asyncio.Task[dict[str, Any] | None]] = {}
        self._restore_targets: dict[tuple[str, str], dict[str, Any]] = {}
        self._run = ray.remote(num_returns="streaming")(run)
        self._run_in_own_process = ray.remote(num_returns="streaming", max_calls=1)(run)
        self._copy = ray.remote(num_cpus=0)(_same)
        self._touch = ray.remote(num_cpus=0)(_touch)
        self._restore = ray.remote(num_returns=2)(restore)
        self._collected = ray.remote(num_cpus=0)(collected)
        self._value_around = ray.remote(num_cpus=0, num_returns=2)(value_around)
        self._self = ray.get_runtime_context().current_actor
        self._transfers = Transfers(self._self)
        self._cluster_view = ClusterView()
        self._spilled_bytes = store.spilled_bytes()

    async def ping(self) -> bool:
        """Answer as soon as the owner works."""
        return True

    async def until_end(self) -> None:
        """Never return: whoever waits for this call learns when the owner ends."""
        await asyncio.Event().wait()

    async def submit(
        self,
        record_id: str,
        payload: bytes | list[Any],
        sources: dict[str, tuple[str, str]],
        inputs: list[tuple[str, str, str]],
        options: dict[str, Any],
        *,
        fingerprint: str | None = None,
        holder: str | None = None,
        as_json: bool = False,
        multiple_outputs: bool = False,
        scheduling_timeout: float | None = None,
        checkpoint: dict[str, Any] | None = None,
        storage: dict[str, Any] | None = None,
        ends_process: bool = False,
        ttl: float | None = None,
    ) -> dict[str, Any] | None:
        """Run a pickled callable under ``record_id``, in place of any earlier work of that name.

        Work of the same fingerprint that is under way or done, and that nobody has acknowledged, is left to go on.

        :param payload: the pickled callable, or where it is large its ref, or the name of its upload, in a list.
        :param inputs: record id and key of the object for each input slot, and ``store``, or ``checkpoint`` for
            one that had to be restored for this.
        :param options: what ``RemoteFunction.options`` takes.
        :param fingerprint: tells the same work of another try; None always begins anew.
        :param holder: any text that tells who submits this, for :meth:`cancel`.
        :param scheduling_timeout: seconds in PENDING after which the work fails; None waits without limit.
        :param checkpoint: where the outputs are checkpointed: ``storage`` (arguments of ``Storage``), ``uri`` (what
            comes before the key in an object URI), ``keys`` to sign with, ``required`` (or best effort).
        :param storage: arguments of ``Storage`` for what the work itself writes and reads.
        :param ends_process: no later work is to run in the same process.
        :param ttl: seconds after the last use in which the outputs are released; None keeps them.
        :returns: None, or as plain data why nothing was submitted: of kind ``attached`` where the work is there
            already; ``lost`` lists the inputs that are gone.
        """
        earlier = self._records.get(record_id)
        if earlier is not None and earlier.attachable(fingerprint):
            earlier.holder = holder
            return failure(FailureKind.ATTACHED, state=earlier.state.value)
        found = [self._find(input_id, key) for input_id, key, _ in inputs]
        if errors := [error for _, error in found if error is not None]:
            lost = [
                (error["record_id"], error["key"]) for error in errors if error["state"] in (None, State.LOST.value)
            ]
            return {**errors[0], "lost": lost if len(lost) == len(errors) else []}
        refs = [ref for ref, _ in found]
        pickled = await self._own(payload[0]) if isinstance(payload, list) else payload
        record = await self._new_record(record_id, options, ttl)
        record.inputs, record.checkpoint, record.storage = inputs, checkpoint, storage
        for producer in self._producers(record):
            producer.users.add(record.attempt)
        record.fingerprint, record.holder = fingerprint, holder
        try:
            runner = self._run_in_own_process if ends_process else self._run
            record.generator = runner.options(**options).remote(
                self._self,
                record_id,
                record.attempt,
                pickled,
                sources,
                as_json,
                multiple_outputs,
                checkpoint is not None,
                *refs,
            )
        # What Ray raises for options it does not take is anything, down to OverflowError.
        except Exception as error:
            await self._discard(record_id)
            return failure(FailureKind.OPTIONS, message=str(error))
        record.task_id = record.generator.completed().task_id().hex()
        self._start(self._follow(record, record.generator))
        self._start(self._watch_scheduling(record, scheduling_timeout))
        return None

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
            ref = refs[0] if objects else await self._own(refs[0])
            output = await self._kept(ref, objects, description)
        except RayError as error:
            return {**failure_of(error), "kind": FailureKind.NOT_READABLE.value}
        record = self._records.get(record_id)
        if record is None or record.state != State.SUCCEEDED:
            record = await self._new_record(record_id, {}, ttl)
        # It is no longer what the work has made.
        record.fingerprint = None
        record.take_output(key, output)
        await self._succeed(record)
        return None

    async def poll(self, record_id: str, offset: int | None, timeout: float) -> dict[str, Any]:
        """Return log lines from ``offset`` on and the state, as soon as either is news.

        :param offset: None for where an earlier follower stopped.
        :param timeout: seconds to wait for news; 0 returns what is known, to somebody who does not follow.
        """
        record = self._records.get(record_id)
        if record is None:
            return {"state": State.LOST.value, "lines": [], "offset": offset or 0, "skipped": 0}
        deadline = time.monotonic() + timeout
        state, detail = record.state, record.detail
        offset = record.read_offset if offset is None else offset
        changed = record.changed
        async with changed:
            if timeout:
                record.note_read(offset)
                changed.notify_all()
            while not (record.finished or record.log.end > offset):
                if record.state != state or record.detail != detail:
                    break
                try:
                    await asyncio.wait_for(changed.wait(), deadline - time.monotonic())
                except asyncio.TimeoutError:
                    break
            lines, offset, skipped = record.log.read(offset)
        answer: dict[str, Any] = {"state": record.state.value, "detail": record.detail}
        answer |= {"lines": lines, "offset": offset, "skipped": skipped}
        if record.finished and record.log.end == offset:
            answer |= {"record": record.describe(), "value_json": record.value_json}
        return answer

    async def watch(
        self, watcher: str, wanted: list[tuple[str, str | None, int | None]], timeout: float
    ) -> list[dict[str, Any] | None] | None:
        """Return news of many pieces of work, as soon as one of them has ended.

        :param watcher: who asks; a call ends when a newer one of the same watcher comes.
        :param wanted: for each a record id, the key of the object that is waited for, and the offset of log lines,
            as for :meth:`poll`. Without a key the work is followed: its log lines are news, and so is that it is not
            known.
        :param timeout: seconds to wait.
        :returns: of each the state, whether it has ended, lines, their offset and how many were skipped, or None
            where there is no news of it; None in all if a newer call came.
        """
        call = self._latest_watch[watcher] = next(self._watch_calls)
        deadline = time.monotonic() + timeout
        async with self._watch_news:
            self._watch_news.notify_all()
            for record_id, key, offset in wanted:
                record = self._records.get(record_id)
                if key is None and record is not None:
                    record.note_read(record.read_offset if offset is None else offset)
            while self._latest_watch.get(watcher) == call and not any(self._is_urgent(*each) for each in wanted):
                try:
                    await asyncio.wait_for(self._watch_news.wait(), deadline - time.monotonic())
                except asyncio.TimeoutError:
                    break
        if self._latest_watch.get(watcher) != call:
            return None
        del self._latest_watch[watcher]
        return self._watched(wanted)

    async def acknowledge(self, record_id: str) -> None:
        """Take note that Airflow knows of the success: a new try of the task begins anew."""
        record = self._records.get(record_id)
        if record is not None:
            record.acknowledged = True

    async def describe(self, record_id: str) -> dict[str, Any] | None:
        """Return what is known of ``record_id`` as plain data, or None."""
        record = self._records.get(record_id)
        return record.describe() if record else None

    async def dashboard_page(self, record_id: str) -> dict[str, str] | None:
        """Return the parts of the address of the work's page in the dashboard, or None where there is none."""
        import ray

        record = self._records.get(record_id)
        if record is None or record.task_id is None:
            return None
        address = await asyncio.to_thread(ray._private.worker.get_dashboard_url)
        job_id = ray.get_runtime_context().get_job_id()
        return {"address": await _answering(address), "job_id": job_id, "task_id": record.task_id}

    async def find(
        self, record_id: str, key: str, collect: bool = False
    ) -> tuple[list[Any], int, dict[str, Any] | None]:
        """Return the ref of an output in a list and its bytes, or an empty list and as plain data why there is none.

        :param collect: of an output with Ray objects inside, return what somebody can use who has no cluster.
        """
        ref, error = self._find(record_id, key)
        if error is not None:
            return [], 0, error
        record = self._records[record_id]
        needs_cluster = collect and record.objects[key]
        return [self._collected.remote(ref) if needs_cluster else ref], record.outputs[key].get("bytes", 0), None

    async def transfer(self, step: str, *args: Any) -> Any:
        """Pass a call on to the :class:`Transfers`; a dict with ``error`` tells its error."""
        from ray.exceptions import RayError

        try:
            return await getattr(self._transfers, step)(*args)
        except RayError as error:
            return {"error": failure_of(error)}

    async def restore(
        self, wanted: list[tuple[str, str, dict[str, Any]]], runtime_env: dict[str, Any] | None, ttl: float | None
    ) -> list[dict[str, Any] | None]:
        """Read lost outputs from their checkpoints, each once however many ask for it at the same time.

        :param wanted: record id, key and target, as for :meth:`submit`, of each.
        :param runtime_env: Ray runtime environment of the reading.
        :param ttl: as for :meth:`submit`.
        :returns: for each None when the output is there, or as plain data why it is not.
        """
        return await asyncio.gather(
            *(self._restore_once((name, key), target, runtime_env, ttl) for name, key, target in wanted)
        )

    async def forget_if_lost(self, record_id: str, key: str) -> None:
        """Find out whether an output is lost, so that it can be restored."""
        record = self._records.get(record_id)
        if record is not None and key in record.refs and await self._is_lost(record, key):
            record.lose_output(key)

    async def restore_target(self, record_id: str, key: str) -> dict[str, Any] | None:
        """Return the target of a restore that is under way; called by the restorer."""
        return self._restore_targets.get((record_id, key))

    async def checkpoint_target(self, record_id: str, attempt: str) -> dict[str, Any] | None:
        """Return where the outputs of work that is under way are checkpointed; called by the runner."""
        record = self._current(record_id, attempt)
        return record.checkpoint if record is not None else None

    async def storage_settings(self, record_id: str, attempt: str) -> dict[str, Any] | None:
        """Return where work that is under way may write and read; called by the work itself."""
        record = self._current(record_id, attempt)
        return record.storage if record is not None else None

    async def refresh_credentials(
        self, record_id: str, checkpoint: dict[str, Any] | None, storage: dict[str, Any] | None
    ) -> None:
        """Take newer credentials for work that is under way."""
        record = self._records.get(record_id)
        if record is not None and not record.finished:
            record.checkpoint, record.storage = checkpoint, storage

    async def note_placement_group(self, record_id: str, attempt: str, group: Any) -> None:
        """Take note of a placement group that ends with the work; called by the runner."""
        record = self._current(record_id, attempt)
        if record is None or record.state in (State.FAILED, State.CANCELLED):
            await asyncio.to_thread(placement_groups.remove, [group])
        else:
            record.placement_groups.append(group)

    async def cancel(self, record_id: str, holder: str | None = None) -> bool:
        """Stop the work of ``record_id`` with all it started; return whether there was any to stop.

        :param holder: stop it only if this one submitted it, or attached to it last.
        """
        record = self._records.get(record_id)
        if record is None or record.finished or (holder is not None and holder != record.holder):
            return False
        await self._stop(record, State.CANCELLED)
        return True

    async def release(self, record_ids: list[str]) -> list[tuple[str, str]]:
        """Stop work, free its outputs and forget it; return record id and key of each object that was freed."""
        freed = []
        for record_id in record_ids:
            record = self._records.get(record_id)
            freed += [(record_id, key) for key in (record.refs if record is not None else ())]
            await self._discard(record_id)
        return freed

    async def list_objects(self, dag: str | None = None, run: str | None = None) -> list[dict[str, Any]]:
        """Return a plain description of each output that is kept, and of work that has none.

        :param dag: how the ids of the records begin; None for all.
        :param run: what comes next in them; None for all.
        """
        records = [record for record in self._records.values() if _is_of(record.record_id.split("/"), dag, run)]
        refs = [ref for record in records for ref in record.refs.values()]
        places = dict(zip(refs, await asyncio.to_thread(store.places_of, refs), strict=True))
        return [entry for record in records for entry in record.list_outputs(places)]

    async def announce_start(self, record_id: str, attempt: str, node: str, pid: int) -> None:
        """Take note that the runner has started; called by it."""
        record = self._current(record_id, attempt)
        if record is None:
            return
        if record.finished:
            record.rebuilt_at = time.time()
            return
        record.starts += 1
        record.state, record.detail = State.RUNNING, None
        record.node, record.pid, record.started_at = node, pid, time.time()
        # Ray tries a task again without end when the memory monitor killed it.
        if 0 <= record.options["max_retries"] < record.starts - 1:
            await self._stop(record, State.FAILED, failure(FailureKind.OUT_OF_MEMORY, starts=record.starts - 1))
        # Of an earlier start, whose process died; this one has made none yet.
        await self._remove_placement_groups(record)
        await self._notify(record)

    async def append_log(self, record_id: str, attempt: str, lines: list[str]) -> bool:
        """Keep log lines, waiting while somebody follows who has many unread; called by the runner.

        :returns: whether further lines are wanted.
        """
        record = self._current(record_id, attempt)
        if record is None or record.finished:
            return False
        async with record.changed:
            while self._follower_lags(record):
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(record.changed.wait(), 1.0)
            record.log.append(lines)
            record.changed.notify_all()
        if record.log.unread_bytes(record.read_offset) > WATCH_UNREAD_BYTES:
            await self._notify_watchers()
        return True

    def _is_urgent(self, record_id: str, key: str | None, offset: int | None) -> bool:
        record = self._records.get(record_id)
        if record is None or key is not None:
            return self._has_ended(record, key)
        return record.finished or record.log.unread_bytes(record.read_offset) > WATCH_UNREAD_BYTES

    def _has_ended(self, record: Record | None, key: str | None) -> bool:
        if record is None:
            return key is None
        return record.finished and key not in record.lost

    def _watched(self, wanted: list[tuple[str, str | None, int | None]]) -> list[dict[str, Any] | None]:
        answers: list[dict[str, Any] | None] = []
        room = MAX_WATCH_BYTES
        for record_id, key, offset in wanted:
            record = self._records.get(record_id)
            news: dict[str, Any] = {
                "state": (record.state if record else State.LOST).value,
                "lines": [],
                "offset": offset,
            }
            news |= {"skipped": 0, "ended": self._has_ended(record, key)}
            if record is not None and key is None and room > 0:
                start = record.read_offset if offset is None else offset
                news["lines"], news["offset"], news["skipped"] = record.log.read(start)
                room -= sum(map(len, news["lines"]))
            answers.append(news if news["ended"] or news["lines"] else None)
        return answers

    def _find(self, record_id: str, key: str) -> tuple[Any, dict[str, Any] | None]:
        record = self._records.get(record_id)
        known = failure(FailureKind.NO_OBJECT, record_id=record_id, key=key)
        if record is None:
            return None, {**known, "state": None}
        if key in record.lost:
            return None, {**known, "state": State.LOST.value}
        if key not in record.refs or record.state != State.SUCCEEDED:
            return None, {**known, "state": record.state.value, "keys": list(record.refs)}
        record.note_used()
        return record.refs[key], None

    async def _new_record(self, record_id: str, options: dict[str, Any], ttl: float | None) -> Record:
        await self._discard(record_id)
        record = Record(record_id, attempt=uuid.uuid4().hex, options=options, ttl=ttl)
        self._records[record_id] = record
        if ttl is not None:
            self._start(self._expire(record_id, record.attempt))
        return record

    async def _expire(self, record_id: str, attempt: str) -> None:
        """Release a record when its outputs have not been used for its time to live."""
        while True:
            left = self._seconds_left(record_id, attempt)
            if left <= 0:
                break
            await asyncio.sleep(left)
        if self._current(record_id, attempt) is not None:
            await self._discard(record_id)

    def _seconds_left(self, record_id: str, attempt: str) -> float:
        record = self._current(record_id, attempt)
        return record.seconds_left() if record is not None else 0.0

    def _producers(self, record: Record) -> list[Record]:
        """Return the records, as far as they are known, whose outputs are inputs of ``record``."""
        return [self._records[name] for name, _, _ in record.inputs if name in self._records]

    def _current(self, record_id: str, attempt: str) -> Record | None:
        record = self._records.get(record_id)
        return record if record is not None and record.attempt == attempt else None

    async def _discard(self, record_id: str) -> None:
        record = self._records.pop(record_id, None)
        if record is not None:
            await self._stop(record, State.CANCELLED)
            record.refs.clear()
            record.objects.clear()
            await self._remove_placement_groups(record)

    async def _stop(self, record: Record, state: State, error: dict[str, Any] | None = None) -> None:
        import ray

        if record.generator is not None:
            ray.cancel(record.generator, force=True, recursive=True)
        await self._finish(record, state, error)

    def _follower_lags(self, record: Record) -> bool:
        return (
            not record.finished
            and time.monotonic() - record.read_at < FOLLOWER_GONE_SECONDS
            and record.log.unread_bytes(record.read_offset) > MAX_UNREAD_BYTES
        )

    async def _restore_once(
        self, name: tuple[str, str], target: dict[str, Any], runtime_env: dict[str, Any] | None, ttl: float | None
    ) -> dict[str, Any] | None:
        if self._find(*name)[1] is None:
            return None
        if name not in self._restoring:
            self._restore_targets[name] = target
            self._restoring[name] = asyncio.get_running_loop().create_task(self._restored(name, runtime_env, ttl))
        # Whoever asked first may go away; the others wait on.
        return await asyncio.shield(self._restoring[name])

    async def _restored(
        self, name: tuple[str, str], runtime_env: dict[str, Any] | None, ttl: float | None
    ) -> dict[str, Any] | None:
        from ray.exceptions import RayError

        record_id, key = name
        try:
            # Ray itself does not try again: it would keep the task for as long as the object, without credentials.
            restore = self._restore.options(runtime_env=runtime_env, max_retries=0)
            ref, outcome = restore.remote(self._self, record_id, key)
            objects, description, failure = await outcome
            if failure is not None:
                return dict(failure)
            output = await self._kept(ref, objects, description)
        except RayError as error:
            return failure_of(error)
        finally:
            del self._restoring[name], self._restore_targets[name]
        record = self._records.get(record_id)
        if record is None:
            record = await self._new_record(record_id, {}, ttl)
            record.finish(State.SUCCEEDED)
        elif record.state != State.SUCCEEDED:
            # Meanwhile the work was run again: what it makes is newer.
            return None
        record.take_output(key, output)
        await self._notify(record)
        return None

    async def _forget_lost(self, record: Record) -> list[tuple[str, str]]:
        """Take note of which inputs of ``record`` are gone, and return their record ids and keys."""
        held = []
        for record_id, key, _ in record.inputs:
            producer = self._records.get(record_id)
            if producer is not None and key in producer.refs:
                held.append((producer, key))
        lost = [(producer, key) for producer, key in held if await self._is_lost(producer, key)]
        for producer, key in lost:
            producer.lose_output(key)
        return [(producer.record_id, key) for producer, key in lost]

    async def _is_lost(self, record: Record, key: str) -> bool:
        from ray.exceptions import RayError

        try:
            for ref in [record.refs[key], *record.objects[key]]:
                await self._touch.remote(ref)
        except RayError:
            return True
        return False

    async def _own(self, ref: Any) -> Any:
        """Return an object of the owner's own: a copy of a client's, or what came in pieces under the name ``ref``."""
        if isinstance(ref, str):
            return await self._transfers.take_value(ref)
        (copy,) = await self._copies([ref])
        return copy

    async def _copies(self, refs: list[Any]) -> list[Any]:
        """Return copies of objects that lie on one node, which are the owner's own."""
        copies: list[Any] = self._copy.options(num_returns=len(refs) + 1).remote(*refs)
        await copies.pop()
        return copies

    async def _follow(self, record: Record, generator: Any) -> None:
        """Take the header, the outputs and the footer as they come, and settle the record."""
        from ray.exceptions import TaskCancelledError

        try:
            header = await (await anext(generator))
            # To iterate asynchronously would fetch and unpickle each output: Ray waits for it by awaiting it.
            refs = await asyncio.to_thread(list, generator)
            record.node, record.pid, record.seconds = header["node"], header["pid"], header["seconds"]
            # The footer; a stream that broke off has the ref of an error here, which raises.
            await refs[-1]
            self._note_lineage(record)
            if header["error"] is not None:
                await self._fail(record, header["error"], header["lost_object"])
            elif not record.finished:
                record.outputs, record.value_json = header["outputs"], header["value_json"]
                await self._take_outputs(record, header["objects"], refs)
        except TaskCancelledError:
            await self._finish(record, State.CANCELLED)
        # Whatever it is, the record must end: somebody waits for it.
        except Exception as error:
            failure = failure_of(error)
            await self._fail(record, failure, failure["kind"] == FailureKind.INPUT_LOST)

    def _note_lineage(self, record: Record) -> None:
        for number, (record_id, key, source) in enumerate(record.inputs):
            producer = self._records.get(record_id)
            if source == "store" and producer is not None and producer.rebuilt_at > record.submitted_at:
                record.inputs[number] = record_id, key, "lineage"

    async def _fail(self, record: Record, error: dict[str, Any], lost_object: bool) -> None:
        if lost_object:
            lost = await self._forget_lost(record)
            error = {**error, "kind": FailureKind.INPUT_LOST.value, "lost": lost} if lost else error
        await self._finish(record, State.FAILED, error)

    async def _take_outputs(self, record: Record, objects: dict[str, list[Any]], refs: list[Any]) -> None:
        from ray.exceptions import RayError

        try:
            for (key, inside), ref in zip(objects.items(), refs, strict=False):
                record.take_output(key, await self._kept(ref, inside, record.outputs[key]))
        except RayError as error:
            # The process that ran the callable has died before what is inside its outputs was copied.
            await self._finish(record, State.FAILED, failure(FailureKind.WORKER_CRASHED, message=str(error)))
        else:
            await self._succeed(record)

    async def _kept(self, ref: Any, objects: list[Any], description: dict[str, Any]) -> Output:
        """Return an object as an output, with its size in bytes.

        :param objects: the refs of the Ray objects inside it, around which it is put together again.
        """
        if objects:
            ref, objects = await self._rebuilt(ref, objects)
        return Output(ref, objects, {**description, "bytes": sum(store.sizes_of([ref, *objects]))})

    async def _succeed(self, record: Record) -> None:
        if sum(output.get("bytes", 0) for output in record.outputs.values()) > SPILL_CHECK_BYTES:
            spilled = await asyncio.to_thread(store.spilled_bytes)
            record.spilled_bytes, self._spilled_bytes = spilled - self._spilled_bytes, spilled
        await self._finish(record, State.SUCCEEDED)

    async def _rebuilt(self, apart: Any, objects: list[Any]) -> tuple[Any, list[Any]]:
        """Return a value that was taken apart as a whole, and the objects inside it, all of them the owner's own."""
        owned = dict(zip(objects, objects, strict=True))
        for there in await asyncio.to_thread(store.by_node, objects):
            owned.update(zip(there, await self._copies(there), strict=True))
        objects = list(owned.values())
        value, done = self._value_around.remote(apart, objects)
        await done
        return value, objects

    async def _finish(self, record: Record, state: State, error: dict[str, Any] | None = None) -> None:
        record.finish(state, error)
        for producer in self._producers(record):
            producer.note_used_by(record.attempt)
        await self._notify(record)
        # What has succeeded may have left something in one of its groups that it returned.
        if record.state != State.SUCCEEDED:
            await self._remove_placement_groups(record)

    async def _remove_placement_groups(self, record: Record) -> None:
        groups, record.placement_groups = record.placement_groups, []
        if groups:
            await asyncio.to_thread(placement_groups.remove, groups)

    async def _notify(self, record: Record) -> None:
        async with record.changed:
            record.changed.notify_all()
        if record.finished:
            await self._notify_watchers()

    async def _notify_watchers(self) -> None:
        async with self._watch_news:
            self._watch_news.notify_all()

    async def _watch_scheduling(self, record: Record, timeout: float | None) -> None:
        """Say what a PENDING record waits for, and fail it when that cannot come or takes too long."""
        scheduling = Scheduling(record.options, timeout, self._cluster_view)
        while record.state == State.PENDING:
            await asyncio.sleep(scheduling.next_check_seconds())
            if record.state == State.PENDING:
                verdict = await asyncio.to_thread(scheduling.check)
                if record.state == State.PENDING and verdict.error is not None:
                    await self._stop(record, State.FAILED, verdict.error)
                elif record.state == State.PENDING:
                    record.detail = verdict.detail
                    await self._notify(record)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
