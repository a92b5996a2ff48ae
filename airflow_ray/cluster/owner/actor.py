"""The detached actor that submits the work of one namespace and so owns the results.

An object on Ray lives as long as the process that submitted its task: were that the Airflow worker,
each result would die with the Airflow task that made it.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.owner.calls import Calls, counted
from airflow_ray.cluster.owner.children import Children
from airflow_ray.cluster.owner.dashboard import Dashboard
from airflow_ray.cluster.owner.elders import Elders, of_record, other_owners
from airflow_ray.cluster.owner.outputs import Outputs
from airflow_ray.cluster.owner.ray_calls import RayCalls
from airflow_ray.cluster.owner.records import Records
from airflow_ray.cluster.owner.remaking import Gets
from airflow_ray.cluster.owner.restoring import Restoring
from airflow_ray.cluster.owner.retirement import Retirement
from airflow_ray.cluster.owner.submissions import ATTEMPT, Submissions
from airflow_ray.cluster.owner.transfers import Transfers
from airflow_ray.cluster.owner.views import Found, Views
from airflow_ray.cluster.owner.waiting import Waiting
from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION, Greeting, PollAnswer, SubmitAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ray.cluster.owner.waiting import Wanted
    from airflow_ray.cluster.protocol import ChildUsed, Sources


@counted
class Owner(Views):
    """A desk that passes calls on to those who decide.

    It never unpickles user code. A ref reaches it in a list only: Ray replaces one that is an argument by its value.

    :param release: as for :class:`~airflow_ray.cluster.owner.keeper.Build`, and so is the ``digest``.
    """

    def __init__(self, release: str, digest: str) -> None:
        import ray

        handle = ray.get_runtime_context().current_actor
        self._greeting: Greeting = {
            "release": release,
            "build": digest,
            "messages": MESSAGES_VERSION,
            "oldest_messages": OLDEST_MESSAGES_VERSION,
        }
        self.calls = Calls()
        self._transfers = Transfers()
        self._ray = RayCalls(handle)
        self._records = Records(self._ray.cancel, self._ray.remove_groups, self._ray.end_actors)
        self._waiting = Waiting(self._records)
        self._children = Children(self._records)
        self._outputs = Outputs(self._records, self._ray, self._transfers.take_value)
        self._gets = Gets(self._records, self._ray)
        self._restoring = Restoring(self._records, self._outputs, self._ray)
        self._submissions = Submissions(self._records, self._outputs, self._ray)
        self._dashboard = Dashboard()
        self._elders = Elders(self._greeting, other_owners)
        self._retirement = Retirement(self._greeting, self._elders, self._records, self._transfers.count, self.calls)
        self._records.listen(self._waiting.notify, self._retirement.end_if_empty)

    # Of the owner itself

    async def begin(self) -> bool:
        """Meet the owners of other builds, and answer as soon as the owner works."""
        await self._retirement.begin()
        return True

    async def greet(self) -> Greeting:
        """Tell who this is."""
        return self._greeting

    async def answer(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call another method: Ray takes its time for each argument, whatever is inside it."""
        return await getattr(self, method)(*args, **kwargs)

    async def answer_owner(self, method: str, args: Sequence[Any]) -> Any:
        """Call another method for the owner of another build, and pass nothing on to others."""
        with self._elders.left_out():
            return await getattr(self, method)(*args)

    async def retire(self, newer_release: str | None) -> bool:
        """See :meth:`Retirement.retire`."""
        return self._retirement.retire(newer_release)

    async def until_end(self) -> bool:
        """See :meth:`Retirement.until_end`; until then, whoever waits learns of the death of this owner."""
        return await self._retirement.until_end()

    # Work and objects that come

    async def attach(self, record_id: str, **attempt: Any) -> SubmitAnswer:
        """See :meth:`Submissions.attach`."""
        answer = await self._attach(record_id, attempt)
        return await self._with_page(record_id, answer) if answer else answer

    async def submit(
        self,
        record_id: str,
        payload: bytes | list[Any],
        sources: Sources,
        inputs: list[tuple[str, str, str]],
        options: dict[str, Any],
        **more: Any,
    ) -> SubmitAnswer:
        """See :meth:`Submissions.submit`."""
        has_begun = functools.partial(self._submissions.has_begun, record_id, more.get("submission"))
        answer: SubmitAnswer = {}
        if not has_begun():
            answer = await self._attach(record_id, {name: more.get(name) for name in ATTEMPT})
        # It may have waited for the first call of the same submission, and is not to be told of that as of another.
        if has_begun():
            return await self._with_page(record_id, {})
        if not answer and (refusal := await self._retirement.refusal()) is not None:
            return {"error": refusal}
        if not answer:
            lent = await self._borrow(inputs)
            answer = await self._submissions.submit(record_id, payload, sources, inputs, options, lent=lent, **more)
            if (record := self._records.get(record_id)) is not None:
                self._children.note_work(record)
        return await self._with_page(record_id, answer)

    async def adopt(self, record_id: str, key: str, *args: Any) -> dict[str, Any] | None:
        """See :meth:`Submissions.adopt`."""
        return await self._retirement.refusal() or await self._submissions.adopt(record_id, key, *args)

    async def receive(self, name: str, sizes: list[int], socket: str) -> dict[str, Any] | None:
        """See :meth:`Transfers.receive`."""
        return await self._transfers.receive(name, sizes, socket)

    # What is known of work

    @of_record
    async def poll(self, record_id: str, offset: int | None, timeout: float) -> PollAnswer:
        """See :meth:`Waiting.poll`."""
        return await self._waiting.poll(record_id, offset, timeout)

    async def watch(self, watcher: str, wanted: list[Wanted], timeout: float) -> Any:
        """See :meth:`Waiting.watch`."""
        unknown = [each[0] for each in wanted if self._records.get(each[0]) is None]
        return await self._elders.watch(self._waiting.watch_with_totals, unknown, watcher, wanted, timeout)

    @of_record
    async def describe(self, record_id: str) -> dict[str, Any] | None:
        """Return what is known of ``record_id`` as plain data, or None."""
        record = self._records.get(record_id)
        return record.describe() if record else None

    # Objects

    async def find(self, record_id: str, key: str, collect: bool = False) -> Found:
        """Return the ref of an output in a list and its bytes, or an empty list and as plain data why there is none.

        :param collect: of an output with Ray objects inside, return what somebody can use who has no cluster.
        """
        record = self._records.get(record_id)
        if record is None and (lent := await self._elders.find(record_id, key, collect)) is not None:
            return *lent, None
        ref, error = self._outputs.find(record_id, key)
        if error is not None or record is None:
            return [], 0, error
        needs_cluster = collect and record.objects[key]
        return [self._ray.collect(ref) if needs_cluster else ref], record.outputs[key].get("bytes", 0), None

    async def send(self, record_id: str, key: str, name: str, socket: str) -> dict[str, Any] | None:
        """Send an output as :meth:`Transfers.send` does."""
        refs, _, error = await self.find(record_id, key, collect=True)
        return error or await self._transfers.send(name, refs, socket)

    async def restore(
        self, wanted: list[tuple[str, str, dict[str, Any]]], runtime_env: dict[str, Any] | None, ttl: float | None
    ) -> list[dict[str, Any] | None]:
        """See :meth:`Restoring.restore`; ``wanted`` are record id, key and target of each."""
        return await asyncio.gather(*(self._restoring.restore(*each, runtime_env, ttl) for each in wanted))

    async def check_get(self, record_id: str, key: str) -> tuple[str | None, dict[str, Any] | None]:
        """See :meth:`Gets.check`."""
        detail, error = await self._gets.check(record_id, key)
        return detail, error

    @of_record
    async def forget_if_lost(self, record_id: str, key: str) -> None:
        """See :meth:`Outputs.forget_if_lost`."""
        await self._outputs.forget_if_lost(record_id, key)

    async def cancel(self, record_id: str, holder: str | None = None) -> bool:
        """See :meth:`Submissions.cancel`."""
        is_known = self._records.get(record_id) is not None
        is_stopped = await self._submissions.cancel(record_id, holder)
        return is_stopped or (not is_known and any(await self._elders.ask_all("cancel", record_id, holder)))

    async def release(
        self, record_ids: list[str] | None, dag: str | None = None, run: str | None = None
    ) -> list[tuple[str, str]]:
        """Stop work, free its outputs and forget it; return record id and key of each object that was freed.

        :param record_ids: of which; None for all of a DAG and a run, those that are submitted meanwhile too.
        """
        freed: list[tuple[str, str]] = []
        for record_id in self._records.ids_of(dag, run) if record_ids is None else record_ids:
            async with self._records.lock(record_id):
                record = self._records.get(record_id)
                freed += [(record_id, key) for key in (record.refs if record is not None else ())]
                await self._records.discard(record_id)
        for answer in await self._elders.ask_all("release", record_ids, dag, run):
            freed += [tuple(each) for each in answer if tuple(each) not in freed]
        return freed

    # What runners ask and tell

    async def announce_start(self, record_id: str, attempt: str, run_id: str, node: str, pid: int) -> None:
        """See :meth:`Submissions.announce_start`."""
        await self._submissions.announce_start(record_id, attempt, run_id, node, pid)

    async def made_outputs(self, record_id: str, attempt: str) -> list[str] | None:
        """See :meth:`Records.made_outputs`."""
        return self._records.made_outputs(record_id, attempt)

    async def append_log(self, record_id: str, attempt: str, lines: list[str], levels: str) -> bool:
        """See :meth:`Waiting.append_log`."""
        record = self._records.current(record_id, attempt)
        return record is not None and await self._waiting.append_log(record, lines, levels)

    async def note_children(self, parent: str, tasks: list[str], actors: list[str]) -> None:
        """See :meth:`Children.note`."""
        await self._children.note(parent, tasks, actors)

    async def note_child_used(self, child: str, used: ChildUsed) -> bool:
        """See :meth:`Children.note_used`."""
        return await self._children.note_used(child, used)

    async def append_child_log(self, child: str, who: str, lines: list[str], levels: str) -> bool:
        """Keep lines of a task or actor with the work that it is of, as :meth:`Waiting.append_log` does."""
        record = await self._children.record_of(child)
        return record is not None and await self._waiting.append_log(record, *record.told_by(child, who, lines, levels))

    async def note_placement_group(self, record_id: str, attempt: str, group: Any) -> None:
        """Take note of a placement group that ends with the work."""
        await self._records.take_belonging(record_id, attempt, "placement_groups", group)

    async def note_actor(self, record_id: str, attempt: str, state: bytes) -> None:
        """Take note of an actor, by the state of its handle, that ends with the work."""
        await self._records.take_belonging(record_id, attempt, "actors", state)

    async def restore_target(self, record_id: str, key: str) -> dict[str, Any] | None:
        """Return the target of a restore that is under way."""
        return self._restoring.target(record_id, key)

    async def checkpoint_target(self, record_id: str, attempt: str) -> dict[str, Any] | None:
        """Return where the outputs of work that is under way are checkpointed."""
        record = self._records.current(record_id, attempt)
        return record.checkpoint if record is not None else None

    async def storage_settings(self, record_id: str, attempt: str) -> dict[str, Any] | None:
        """Return where work that is under way may write and read."""
        record = self._records.current(record_id, attempt)
        return record.storage if record is not None else None

    @of_record
    async def refresh_credentials(
        self, record_id: str, checkpoint: dict[str, Any] | None, storage: dict[str, Any] | None
    ) -> None:
        """See :meth:`Records.refresh_credentials`."""
        await self._records.refresh_credentials(record_id, checkpoint, storage)

    async def _attach(self, record_id: str, attempt: dict[str, Any]) -> SubmitAnswer:
        """Attach to work that is here, or that the owner of another build has."""
        answer = await self._submissions.attach(record_id, **attempt)
        if not answer and self._records.get(record_id) is None:
            answer = await self._elders.attach(record_id, attempt)
        return answer

    async def _borrow(self, inputs: list[tuple[str, str, str]]) -> dict[tuple[str, str], Any]:
        """Return the refs of inputs that the owners of other builds have."""
        unknown = [(record_id, key) for record_id, key, _ in inputs if self._records.get(record_id) is None]
        found = await asyncio.gather(*(self._elders.find(*name) for name in unknown))
        return {name: lent[0][0] for name, lent in zip(unknown, found, strict=True) if lent is not None}

    async def _with_page(self, record_id: str, answer: SubmitAnswer) -> SubmitAnswer:
        """Add the work's page in the dashboard, unless there is no work."""
        record = self._records.get(record_id)
        if "error" not in answer and record is not None and record.task_id is not None:
            answer["page"] = await self._dashboard.page(record.task_id)
        return answer
