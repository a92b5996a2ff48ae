"""What tasks and actors print and log that a callable has started, sent on to the log of its work.

Ray's own way, by the log monitor of each node, tells neither the task nor its work, drops lines under load, and has two
files whose lines have lost their order. So what Python writes is taken where it is written, in the process itself.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.log_levels import PLAIN
from airflow_ray.cluster.own_tasks import is_own_task
from airflow_ray.cluster.redaction import redacted, secrets_of_work
from airflow_ray.cluster.worker.child_usage import ChildUsage
from airflow_ray.cluster.worker.level_marks import letter_under_way, note_levels
from airflow_ray.cluster.worker.line_assembler import LineAssembler
from airflow_ray.cluster.worker.owner_calls import begin_call
from airflow_ray.cluster.worker.watched_stream import PIECE, WatchedStream, layers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.protocol import ChildUsed

# Between two calls to the owner. What a child writes waits there until that child was noted.
SEND_SECONDS = 0.1
NOTE_SECONDS = 0.005
# Before a value leaves the process: whoever reads that may end the work.
LEAVE_SECONDS = 5.0
ANSWER_SECONDS = 60.0
MAX_BATCH_BYTES = 256 * 1024
MAX_UNSENT_BYTES = 1024 * 1024
# By which Ray tells in its log files whose lines follow.
_TASK, _ACTOR = ":task_name:", ":actor_name:"


class _Batch(NamedTuple):
    child: str
    who: str
    lines: list[str]
    levels: str
    size: int


class ChildOutput(threading.Thread):
    """Sends on what one process writes, and tells whose children the tasks and actors are that it starts.

    :param owner_name: the name of the owner, in the namespace of this process.
    """

    def __init__(self, owner_name: str) -> None:
        import ray

        super().__init__(name="airflow-ray-child-output", daemon=True)
        self._owner_name = owner_name
        self._owner: Any = None
        self._worker: Any = ray._private.worker.global_worker
        self._pid = os.getpid()
        self._place = f"pid={self._pid} node={ray.util.get_node_ip_address()}"
        self._secrets = secrets_of_work()
        self._changed = threading.Condition()
        self._lines = LineAssembler(self._secrets)
        self._unsent: deque[_Batch] = deque()
        self._unsent_bytes = 0
        self._tasks: list[str] = []
        self._actors: list[str] = []
        self._usage = ChildUsage(self._place)
        self._used: list[tuple[str, ChildUsed]] = []
        # Of whoever's lines nobody wants.
        self._unwanted: str | None = None
        self._is_busy = False
        # The runner has a way of its own for what it writes and uses.
        self._is_runner = False
        self._has_used_for_others = True
        self._streams: list[WatchedStream] = []
        # For the first value Ray loads numpy and pyarrow: their files, mapped after a peak, would be taken off it.
        self._worker.get_serialization_context()
        self._begin()

    @property
    def has_unsent(self) -> bool:
        """Whether something is on its way."""
        return bool(self._unsent_bytes or self._lines.bytes or self._lines.has_partial or self._used or self._is_busy)

    def watch_streams(self) -> None:
        """Take what is written to ``sys.stdout`` and ``sys.stderr``, and logging from INFO on as the runner does."""
        note_levels()
        before = {id(stream): name for name in ("stdout", "stderr") for stream in layers_of(getattr(sys, name))}
        self._streams = [WatchedStream(sys.stdout, self.take), WatchedStream(sys.stderr, self.take)]
        sys.stdout, sys.stderr = self._streams
        # Those that Ray has made hold the streams as they were.
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", ()):
                if isinstance(handler, logging.StreamHandler) and id(handler.stream) in before:
                    handler.setStream(getattr(sys, before[id(handler.stream)]))
        # Where nobody has set a handler; whoever does has it as usual.
        last = logging._StderrHandler(logging.INFO)  # type: ignore[attr-defined]
        last.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.lastResort = last
        logging.root.setLevel(min(logging.root.level, logging.INFO))

    @contextmanager
    def as_runner(self) -> Iterator[None]:
        """Leave to the runner what this process writes while it runs a callable."""
        self._is_runner = True
        self._begin()
        try:
            yield
        finally:
            self._is_runner = False
            # The peak is still to be read by whoever measures what the callable has used.
            self._has_used_for_others = True

    def take(self, text: str) -> None:
        """Take what the process has written; waits where more is written than can be sent."""
        if os.getpid() != self._pid:
            # A fork has no thread that would send anything.
            return
        if text.startswith((_TASK, _ACTOR)):
            self._begin(text)
            return
        self._look()
        self._add(text)

    def _add(self, text: str) -> None:
        if self._is_runner or self._child == self._unwanted:
            return
        letter = letter_under_way()
        with self._changed:
            # Each line of a record has its level; what is printed needs no look at its lines.
            for line in text.splitlines(keepends=True) if letter != PLAIN else [text]:
                if letter != PLAIN:
                    self._lines.set_level(letter)
                data = line.encode(errors="replace")
                for start in range(0, len(data), PIECE):
                    self._lines.take(data[start : start + PIECE])
            if self._lines.bytes > MAX_BATCH_BYTES:
                self._pack()
            self._changed.notify_all()
            while self._unsent_bytes > MAX_UNSENT_BYTES and threading.current_thread() is not self:
                self._changed.wait(1.0)

    def note(self, tasks: list[str], actors: list[str]) -> None:
        """Take note of tasks and actors that this process has started."""
        if os.getpid() != self._pid:
            return
        self._look()
        with self._changed:
            self._tasks += tasks
            self._actors += actors
            self._changed.notify_all()

    def before_a_value_leaves(self) -> None:
        """Wait until what was written so far has come to the owner: a value may be all that the work waits for."""
        # What this thread sends is no value of the work: a reading for it would put off the next one.
        if threading.current_thread() is self:
            return
        self._take_begun()
        self._look()
        self._note_usage()
        if not self.has_unsent or os.getpid() != self._pid:
            return
        # Under this lock the thread unpickles arguments, and Ray reads no answer to another thread meanwhile.
        if self._worker.function_actor_manager.lock._is_owned():
            return
        deadline = time.monotonic() + LEAVE_SECONDS
        with self._changed:
            self._lines.end()
            self._pack()
            self._changed.notify_all()
            while (self._unsent_bytes or self._used or self._is_busy) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def run(self) -> None:
        """Send on, several times a second at most."""
        while True:
            with self._changed:
                while not self._has_news():
                    self._changed.wait(self._seconds_to_state())
                    self._lines.take_due_state()
                self._pack()
                batch = self._unsent.popleft() if self._unsent else None
                parent, tasks, actors = self._child, self._tasks, self._actors
                used, self._tasks, self._actors, self._used = self._used, [], [], []
                self._is_busy = True
            # Whatever it is, the file of Ray's has these lines too.
            with suppress(Exception):
                self._send(batch, parent, tasks, actors, used)
            with self._changed:
                self._is_busy = False
                self._unsent_bytes -= batch.size if batch is not None else 0
                self._changed.notify_all()
                waits = not self._unsent
            if waits:
                self._pause()

    def _pause(self) -> None:
        """Let some more come together, unless somebody waits for it."""
        started = time.monotonic()
        with self._changed:
            while not self._unsent and not self._used:
                seconds = NOTE_SECONDS if self._tasks or self._actors else SEND_SECONDS
                if (left := started + seconds - time.monotonic()) <= 0:
                    return
                self._changed.wait(left)

    def _has_news(self) -> bool:
        return bool(self._unsent or self._lines.bytes or self._tasks or self._actors or self._used)

    def _seconds_to_state(self) -> float | None:
        due = self._lines.state_is_due_at()
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def _send(
        self,
        batch: _Batch | None,
        parent: str,
        tasks: list[str],
        actors: list[str],
        used: list[tuple[str, ChildUsed]],
    ) -> None:
        import ray

        if self._owner is None:
            self._owner = ray.get_actor(self._owner_name)
        if tasks or actors:
            begin_call(self._owner, "note_children", parent, tasks, actors)
        calls = []
        if batch is not None:
            shown = redacted(batch.lines, self._secrets)
            call = begin_call(self._owner, "append_child_log", batch.child, batch.who, shown, batch.levels)
            calls.append((batch.child, call))
        # Not by begin_call: what comes twice would count twice.
        calls += [(child, self._owner.note_child_used.remote(child, told)) for child, told in used]
        # The value that leaves next may end the work, and would overtake what is only on its way.
        for child, call in calls:
            # An asynchronous actor warns of ray.get, in any thread.
            if not call.future().result(ANSWER_SECONDS):
                self._unwanted = child

    def _note_usage(self) -> None:
        if self._is_runner or self._child == self._unwanted or os.getpid() != self._pid or not self._usage.is_due():
            return
        with self._changed:
            self._used.append((self._child, self._usage.read()))

    def _take_begun(self) -> None:
        for stream in self._streams:
            if begun := stream.pop_begun():
                self._add(begun)

    def _look(self) -> None:
        """Notice that another task has begun, also where Ray is told not to write so."""
        # Other threads have no task of their own.
        if self._main_task is None or threading.current_thread() is not threading.main_thread():
            return
        if self._worker.core_worker.get_current_task_id() != self._main_task:
            self._begin()

    def _begin(self, text: str = "") -> None:
        """Take note that what comes is of another task or actor; Ray says so where that begins."""
        self._take_begun()
        if self._has_used_for_others:
            self._usage.begin()
        else:
            self._note_usage()
        self._has_used_for_others = self._is_runner
        core = self._worker.core_worker
        actor, task = core.get_actor_id(), core.get_current_task_id()
        name = text.rstrip("\n").removeprefix(_TASK).removeprefix(_ACTOR) or core.get_current_task_name()
        with self._changed:
            self._lines.end()
            self._pack()
            if actor.is_nil():
                self._main_task = task
                self._child, self._who = task.hex(), f"(task {name} {self._place})"
                if is_own_task(name):
                    # Nobody has told whose child it is, and nobody waits for what it writes.
                    self._unwanted = self._child
            else:
                self._main_task = None
                # Until Ray has told, it is that of its first method.
                self._child, self._who = actor.hex(), f"(actor {name.partition('.')[0]} {self._place})"

    def _pack(self) -> None:
        lines, levels = self._lines.pop()
        if lines:
            size = sum(map(len, lines))
            self._unsent.append(_Batch(self._child, self._who, lines, levels, size + 1))
            self._unsent_bytes += size + 1
