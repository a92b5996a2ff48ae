"""What a client sends for a worker, or a worker for a client, while it passes through the gateway."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of one transfer there are these, one that comes and one that goes: 32 MB with chunks of 8 MB.
PIPE_BYTES = 16_000_000
# What a batch takes at least, also one without bytes.
MIN_BATCH_BYTES = 4_000
# A further one waits until one of these has ended.
MAX_PIPES = 16
# One end that does nothing for so long is gone, or might as well be.
SILENT_SECONDS = 60.0
# Between two looks for such ends, where somebody waits for a turn.
CHECK_SECONDS = 1.0


class PipeBrokenError(Exception):
    """One end of a pipe has gone, or does nothing any more."""


class Pipe:
    """Passes batches on from one thread to another, and lets the first one wait for the second."""

    def __init__(self) -> None:
        self._batches: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._broken: str | None = None
        # When something was taken last.
        self._taken: float | None = None
        # Guards all of the above: a batch is taken by one, and nobody waits for what is there already.
        self._changed = threading.Condition()

    def put(self, batch: Any, size: int, patience: float | None = None) -> None:
        """Pass a batch on as soon as there is room for it.

        :param size: in bytes.
        :param patience: seconds in which there must be; None waits without limit.
        :raises PipeBrokenError: the other end has gone, or takes nothing.
        """
        with self._changed:
            if not self._wait(lambda: self._bytes < PIPE_BYTES, patience):
                self._break_off(f"the receiving end took nothing for {patience:.3g} seconds")
                self._require_whole()
            self._batches.append((batch, max(size, MIN_BATCH_BYTES)))
            self._bytes += max(size, MIN_BATCH_BYTES)
            self._changed.notify_all()

    def end(self) -> None:
        """Let the other end know that this was all."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self, reason: str) -> None:
        """Let both ends fail, unless all is there for the receiving one."""
        with self._changed:
            self._break_off(reason)

    def batches(self, patience: float | None = None, signs: float | None = None) -> Iterator[Any]:
        """Yield the batches as they come.

        :param patience: seconds in which the next one must come; None waits without limit.
        :param signs: seconds after which None is yielded while none comes.
        :raises PipeBrokenError: the other end has gone before its last one, or sends nothing.
        """
        while True:
            with self._changed:
                is_there = self._wait(lambda: self._batches or self._ended, patience or signs)
                if is_there and not self._batches:
                    return
                if is_there:
                    batch, size = self._batches.popleft()
                    self._bytes -= size
                    self._taken = time.monotonic()
                    self._changed.notify_all()
                elif patience:
                    self._break_off(f"the sending end sent nothing for {patience:.3g} seconds")
                    self._require_whole()
                else:
                    batch = None
            yield batch

    def is_stuck(self, seconds: float) -> bool:
        """Whether it is broken, or the receiving end has begun and then took nothing of what is there for so long."""
        with self._changed:
            is_slow = self._taken is not None and self._taken + seconds < time.monotonic()
            return bool(self._broken or (self._batches and is_slow))

    def give_up(self) -> None:
        """Let both ends fail, and keep nothing for the receiving one."""
        with self._changed:
            self._ended = False
            self._break_off("the receiving end took nothing for too long")

    def _wait(self, is_so: Callable[[], Any], seconds: float | None) -> bool:
        met = self._changed.wait_for(lambda: self._broken or is_so(), seconds)
        self._require_whole()
        return bool(met)

    def _break_off(self, reason: str) -> None:
        if not self._ended:
            self._broken = self._broken or reason
            self._batches.clear()
            self._changed.notify_all()

    def _require_whole(self) -> None:
        if self._broken:
            raise PipeBrokenError(self._broken)


class Pipes:
    """The pipes that are open, by the names of their transfers.

    :param at_most: how many have a turn at once; the others wait, and the first that was opened comes first.
    :param patience: seconds after which one that is stuck loses its turn.

    A thread that waits for a peer that is stuck cannot be ended, so the turn is not the thread's but the pipe's.
    """

    def __init__(self, at_most: int = MAX_PIPES, patience: float = SILENT_SECONDS) -> None:
        self._at_most = at_most
        self._patience = patience
        self._pipes: dict[str, Pipe] = {}
        self._waiting: deque[Pipe] = deque()
        self._have_turns: set[Pipe] = set()
        # Guards all of them: a turn that is free is taken by one.
        self._changed = threading.Condition()

    @contextmanager
    def open(self, name: str) -> Iterator[Pipe]:
        """Hold a pipe open under a name that its other end knows.

        :raises PipeBrokenError: there is one of that name.
        """
        pipe = Pipe()
        with self._changed:
            if name in self._pipes:
                raise PipeBrokenError("a value of that name is on its way already")
            self._pipes[name] = pipe
            self._waiting.append(pipe)
        try:
            yield pipe
        finally:
            pipe.break_off("the other end has gone")
            with self._changed:
                del self._pipes[name]
                self._have_turns.discard(pipe)
                if pipe in self._waiting:
                    self._waiting.remove(pipe)
                self._changed.notify_all()

    def wait_for_turn(self, pipe: Pipe, signs: float) -> Iterator[None]:
        """Return when it is this pipe's turn.

        :param signs: seconds after which None is yielded while it is not.
        """
        while True:
            deadline = time.monotonic() + signs
            with self._changed:
                self._give_turns()
                while pipe in self._waiting and time.monotonic() < deadline:
                    self._changed.wait(min(CHECK_SECONDS, signs))
                    self._give_turns()
                if pipe not in self._waiting:
                    return
            yield

    def get(self, name: str) -> Pipe | None:
        """Return the pipe of that name, if it is open."""
        return self._pipes.get(name)

    def _give_turns(self) -> None:
        """Let those begin for which there is room, whoever asks: the first one may be busy with a sign."""
        while self._waiting and self._has_room():
            self._have_turns.add(self._waiting.popleft())
            self._changed.notify_all()

    def _has_room(self) -> bool:
        if len(self._have_turns) == self._at_most:
            for pipe in [each for each in self._have_turns if each.is_stuck(self._patience)]:
                pipe.give_up()
                self._have_turns.remove(pipe)
        return len(self._have_turns) < self._at_most
