"""An event loop that tries other orders of what waits, and whose time costs nothing."""

from __future__ import annotations

import asyncio
import heapq
import random
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

OWNER = "airflow_ray.cluster.owner."
# A test that takes more steps in all turns round and round.
MAX_STEPS = 100_000


class Stuck(Exception):
    """Everything waits for what never comes."""


class OrderedLoop(asyncio.BaseEventLoop):
    """Chooses by a seed which of the callbacks that are ready goes first.

    Its time goes on only where nothing is ready, or where the machine is slow: then a timer goes off before others
    have had their turn. What is to run in a thread runs as a callback.

    :param seed: the same one gives the same order.
    :param slowness: how likely a timer goes off early at each step.
    """

    def __init__(self, seed: int, slowness: float = 0.0) -> None:
        super().__init__()
        self._choice = random.Random(seed)
        self._slowness = slowness
        self._now = 1000.0
        self._ends_when_idle = False
        self._steps = 0

    def time(self) -> float:
        return self._now

    def settle(self) -> None:
        """Run until nothing is ready; the time stays."""
        self._ends_when_idle = True
        try:
            self.run_forever()
        finally:
            self._ends_when_idle = False

    def pass_time(self, seconds: float) -> None:
        """Run for so long."""
        self.call_later(seconds, self.stop)
        self.run_forever()
        self.settle()

    def end(self) -> None:
        """End all that is left, and close."""
        self.kill_tasks()
        self.close()

    def kill_tasks(self) -> None:
        """End all that is left, as a process does that dies: what that leaves behind is of no interest."""
        self._steps = 0
        self.set_exception_handler(lambda *_: None)
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.set_exception_handler(None)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(run)
        return future

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._ready and self._ends_when_idle:
            self.stop()
            return
        if self._scheduled and (not self._ready or self._choice.random() < self._slowness):
            self._now = max(self._now, self._scheduled[0].when())
            # Those of the same moment go in any order.
            while self._scheduled and self._scheduled[0].when() <= self._now:
                timer = heapq.heappop(self._scheduled)
                timer._scheduled = False
                self._ready.append(timer)
        self._steps += 1
        if not self._ready or self._steps > MAX_STEPS:
            raise Stuck
        number = self._choice.randrange(len(self._ready))
        handle = self._ready[number]
        del self._ready[number]
        if not handle.cancelled():
            handle._run()

    def _write_to_self(self) -> None:
        """Wake nobody: there is one thread."""


class Clock:
    """The time of a loop in place of the module ``time``."""

    def __init__(self) -> None:
        self.loop: OrderedLoop | None = None

    def monotonic(self) -> float:
        return self.loop.time() if self.loop is not None else 0.0

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic()


@contextmanager
def on_clock(clock: Clock) -> Iterator[None]:
    """Let the modules of the owner go by this clock."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(OWNER) and hasattr(module, "time"):
                patch.setattr(module, "time", clock)
        yield


def run_ordered(seed: int, test: Callable[[], Coroutine[Any, Any, Any]], slowness: float = 0.1) -> Any:
    """Run a test in the order of a seed, and let it fail where something waits for what never comes."""
    clock = Clock()
    loop = clock.loop = OrderedLoop(seed, slowness)
    with on_clock(clock):
        try:
            return loop.run_until_complete(test())
        finally:
            loop.end()
