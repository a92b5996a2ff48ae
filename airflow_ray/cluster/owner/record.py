"""What the owner knows of one piece of work."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from airflow_ray.cluster.owner.bell import Bell
from airflow_ray.cluster.owner.log_buffer import LogBuffer
from airflow_ray.cluster.owner.repeats import Repeats, wants_fewer
from airflow_ray.cluster.owner.scheduling import requested_resources
from airflow_ray.cluster.protocol import State
from airflow_ray.cluster.redaction import redacted, secrets_in

if TYPE_CHECKING:
    from airflow_ray.cluster.protocol import ChildrenUsed, ChildUsed, TaskTry, Used

MAX_PLACES = 10_000
# Each may have dozens of columns, and all go to Airflow with the record.
MAX_DESCRIBED_INPUTS = 20
FOLLOWER_GONE_SECONDS = 30.0


def task_text(record_id: str) -> str:
    """Return which task a record is of, as a person knows it."""
    dag, run, task, index = map(unquote, record_id.split("/")[:4])
    mapped = "" if index == "-1" else f" with map index {index}"
    return f"task {task!r}{mapped} of DAG {dag!r} in run {run!r}"


class Output(NamedTuple):
    """An object that a piece of work has left.

    :param ref: its ref.
    :param objects: the refs of the Ray objects inside it.
    :param description: its type, ``shape`` or ``length``, and ``bytes``, as plain data.
    """

    ref: Any
    objects: list[Any]
    description: dict[str, Any]


@dataclass
class Record:
    """The state of one piece of work.

    :param attempt: tells this work from earlier work under the same ``record_id``.
    :param options: what the work was submitted with, as ``RemoteFunction.options`` takes it; it may hold secrets.
    :param fingerprint: the same for the same work of another try; None where no other try may attach to this.
    :param holder: the try that submitted or last attached to this; an earlier one may not cancel it any more.
    :param submission: what this was submitted by: the same one that comes again has lost its answer.
    :param edition: tells the outputs from earlier and later ones of the same names.
    :param task_try: the try of a task that submitted or last attached to this; None for work that is of none.
    :param inputs: record id, key and source of each input; the source is ``store``, ``lineage`` or ``checkpoint``.
    :param input_editions: of those whose records this owner has, by record id.
    :param input_refs: the ref of each input until the work has ended: Ray may run it again.
    :param input_outputs: what is told of the first inputs, in their order; empty of those that another owner has.
    :param checkpoint: where and with which credentials the outputs are checkpointed; forgotten when the work ends.
    :param storage: where and with which credentials the work itself may write and read; likewise.
    :param scheduling_timeout: seconds that it may wait for resources; None for as long as they can come.
    :param ttl: seconds after the last use in which the outputs are released; None keeps them.

    ``outputs`` maps each key to its description, ``refs`` to its object and ``objects`` to the Ray objects inside that.
    ``lost`` are the keys of those that are gone, ``rebuilt_at`` is when Ray last ran the work again for an output that
    was lost, ``run_id`` tells the run that the outputs are of. ``is_restored`` is whether the record knows of no other
    outputs than those that were restored to it.
    ``made`` are the keys of the outputs that the work has left, in the order in which Ray knows them.
    ``read_offset`` is how far a follower has read the log, ``read_at`` when it last asked, by the monotonic clock in
    seconds. ``placement_groups`` are those that the work has made. ``used_at`` is when the work or its outputs were
    last of use to somebody, by the same clock, ``users`` are the attempts of other work that uses them now.
    ``spilled_bytes`` is how much Ray wrote to disk for lack of room meanwhile, ``used`` what the work has used, where
    its process lived to tell, ``read_bytes`` and ``written_bytes`` the sizes of its inputs and of its outputs.
    ``children_used`` is what its Ray tasks and actors have used, ``child_places`` are the processes that they ran in.
    ``actors`` are the states of the handles of those that it has made. ``watched_details`` are the last ``detail`` that
    each watcher has been told, by the watcher and the key that it waits for. ``repeats`` are the lines of its children
    of which only the number is to be told. ``announced`` are the runs that have begun, see :attr:`run_id`.
    """

    record_id: str
    attempt: str
    options: dict[str, Any] = field(repr=False)
    fingerprint: str | None = None
    holder: str | None = None
    submission: str | None = None
    edition: str = field(default_factory=lambda: uuid.uuid4().hex)
    task_try: TaskTry | None = None
    inputs: list[tuple[str, str, str]] = field(default_factory=list)
    input_editions: dict[str, str] = field(default_factory=dict)
    input_refs: list[Any] = field(default_factory=list, repr=False)
    input_outputs: list[dict[str, Any]] = field(default_factory=list, repr=False)
    checkpoint: dict[str, Any] | None = field(default=None, repr=False)
    storage: dict[str, Any] | None = field(default=None, repr=False)
    scheduling_timeout: float | None = None
    state: State = State.PENDING
    submitted_at: float = field(default_factory=time.time)
    started_at: float | None = None
    finished_at: float | None = None
    starts: int = 0
    announced: set[str] = field(default_factory=set, repr=False)
    run_id: str | None = None
    node: str | None = None
    pid: int | None = None
    seconds: float | None = None
    detail: str | None = None
    watched_details: dict[tuple[str, str | None], str | None] = field(default_factory=dict, repr=False)
    error: dict[str, Any] | None = None
    value_json: str | None = None
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    refs: dict[str, Any] = field(default_factory=dict, repr=False)
    objects: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    placement_groups: list[Any] = field(default_factory=list, repr=False)
    actors: list[bytes] = field(default_factory=list, repr=False)
    lost: set[str] = field(default_factory=set)
    is_restored: bool = False
    task_id: str | None = None
    rebuilt_at: float = 0.0
    log: LogBuffer = field(default_factory=LogBuffer, repr=False)
    generator: Any = field(default=None, repr=False)
    changed: Bell = field(default_factory=Bell, repr=False)
    made: list[str] | None = None
    read_offset: int = 0
    read_at: float = 0.0
    ttl: float | None = None
    used_at: float = field(default_factory=time.monotonic)
    users: set[str] = field(default_factory=set)
    spilled_bytes: int = 0
    used: Used | None = None
    read_bytes: int | None = None
    written_bytes: int = 0
    children_used: ChildrenUsed | None = None
    child_places: set[str] = field(default_factory=set, repr=False)
    repeats: Repeats | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state.is_final

    @property
    def held_bytes(self) -> int:
        """The size of the objects that it has."""
        return sum(self.outputs[key].get("bytes", 0) for key in self.refs)

    def told_by(self, child: str, who: str, lines: list[str], levels: str) -> tuple[list[str], str]:
        """Return what the log shows of lines that a child of the work has written, and their levels.

        :param who: the child, as a person knows it.
        """
        if child == self.task_id:
            # Its own process, before the callable is called: its inputs are unpickled there by code of the user's.
            return lines, levels
        if self.repeats is None and not wants_fewer(self.options):
            return [f"{who} {line}" for line in lines], levels
        self.repeats = self.repeats or Repeats()
        return self.repeats.fewer(child, who, lines, levels)

    def take_child_used(self, used: ChildUsed) -> None:
        """Take note of what a process has used in which tasks or actors of the work run."""
        known = self.children_used or {"processes": 0, "memory": 0, "cpu_seconds": 0.0}
        # Of very many processes, the number of those that have told first.
        if len(self.child_places) < MAX_PLACES:
            self.child_places.add(used["place"])
        known["processes"] = len(self.child_places)
        known["memory"] = max(known["memory"], used["memory"])
        known["cpu_seconds"] += used["cpu_seconds"]
        self.children_used = known

    def note_rebuilt(self) -> None:
        """Take note that Ray has run the work again for an output that was lost."""
        self.rebuilt_at = time.time()

    def note_read(self, offset: int | None = None) -> None:
        """Take note that somebody follows, and up to where the log has been read, if that is news."""
        self.read_offset = self.read_offset if offset is None else offset
        self.read_at = self.used_at = time.monotonic()

    @property
    def is_followed(self) -> bool:
        """Whether somebody reads the log, who may have asked for it some seconds ago."""
        return time.monotonic() - self.read_at < FOLLOWER_GONE_SECONDS

    def note_used(self) -> None:
        """Take note that somebody uses an output."""
        self.used_at = time.monotonic()

    def note_used_by(self, attempt: str) -> None:
        """Take note that other work has used an output, and is done."""
        if attempt in self.users:
            self.users.remove(attempt)
            self.note_used()

    def seconds_left(self) -> float:
        """Return how long the outputs are kept at least; for a record that has a time to live."""
        ttl = self.ttl or 0.0
        is_in_use = self.users or not self.finished
        return ttl if is_in_use else self.used_at + ttl - time.monotonic()

    def take_output(self, key: str, output: Output) -> None:
        """Have an object as an output."""
        self.refs[key], self.objects[key], self.outputs[key] = output
        self.lost.discard(key)

    def lose_output(self, key: str, ref: Any) -> bool:
        """Take note that ``ref`` is gone, and return whether it was the output of that key.

        Several consumers may find that at the same time, and another object may be in its place by then.
        """
        if self.refs.get(key) is not ref:
            return False
        del self.refs[key]
        self.objects.pop(key, None)
        self.lost.add(key)
        return True

    def finish(self, state: State, error: dict[str, Any] | None = None) -> None:
        """Set the final state, once: what comes later about this attempt is ignored."""
        if not self.finished:
            self.state = state
            self.error = redacted(error, secrets_in(self.options.get("runtime_env")))
            self.note_used()
            self.detail = None
            self.finished_at = time.time()
            self.generator = None
            self.checkpoint = self.storage = None
            self.input_refs.clear()

    def describe(self) -> dict[str, Any]:
        """Return all but the refs and the log as plain data."""
        return {
            "record_id": self.record_id,
            "state": self.state.value,
            "submitted_at": self.submitted_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "node": self.node,
            "pid": self.pid,
            "seconds": self.seconds,
            "detail": self.detail,
            "error": self.error,
            "inputs": self._described_inputs(),
            "outputs": self.outputs,
            "lost": sorted(self.lost),
            "fingerprint": self.fingerprint,
            "task_try": self.task_try,
            "memory": self.options.get("memory"),
            "num_cpus": self.options.get("num_cpus"),
            "used": self.used,
            "children_used": self.children_used,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
            "asked": requested_resources(self.options),
            "task_id": self.task_id,
            "log_lines": self.log.end,
            "ttl": self.ttl,
            "is_restored": self.is_restored,
            "spilled_bytes": self.spilled_bytes,
        }

    def _described_inputs(self) -> list[dict[str, Any]]:
        inputs: list[dict[str, Any]] = [
            {"record_id": n, "key": key, "source": source} for n, key, source in self.inputs
        ]
        for each, output in zip(inputs, self.input_outputs, strict=False):
            each["output"] = output
        return inputs

    def list_outputs(self, places: dict[Any, tuple[str | None, bool]]) -> list[dict[str, Any]]:
        """Return a line of a list for each output, or the only one, without a key, for work that has none.

        The first one also tells the inputs of the work.

        :param places: of the refs of all outputs, as :func:`~airflow_ray.cluster.owner.store.places_of` returns them.
        """
        known: dict[str, Any] = {
            "record_id": self.record_id,
            "state": self.state.value,
            "age": time.time() - self.submitted_at,
            "detail": self.detail,
            "inputs": [(name, key) for name, key, _ in self.inputs],
        }
        if self.finished_at is not None:
            known["age"] = time.time() - self.finished_at
        keys = [*self.refs, *sorted(self.lost)]
        if not keys:
            return [{**known, "key": None, "node": self.node, "spilled": False}]
        lines = []
        for key in keys:
            node, spilled = places.get(self.refs.get(key), (None, False))
            line = {**known, **self.outputs[key], "key": key, "node": node or self.node, "spilled": spilled}
            lines.append({**line, "state": State.LOST.value} if key in self.lost else line)
            # Of all outputs of the work; there may be hundreds of both.
            known["inputs"] = []
        return lines
