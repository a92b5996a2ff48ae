"""Calls that wait in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from airflow_ray.client.connection.threads import in_own_thread


def test_call_does_not_wait_for_those_that_take_all_threads_of_the_loop():
    gate = threading.Event()

    async def test() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        held = [asyncio.ensure_future(asyncio.to_thread(gate.wait)) for _ in range(3)]
        try:
            return await asyncio.wait_for(in_own_thread("{} {word}".format, "a", word="call"), 10)
        finally:
            gate.set()
            await asyncio.gather(*held)

    assert asyncio.run(test()) == "a call"


def test_call_knows_for_whom_it_is():
    trigger = ContextVar("trigger")

    async def test() -> str:
        trigger.set("a trigger")
        return await in_own_thread(trigger.get)

    assert asyncio.run(test()) == "a trigger"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_call_that_nobody_waits_for_any_more_ends_in_its_thread():
    gate, ended = threading.Event(), threading.Event()

    def call() -> None:
        gate.wait()
        ended.set()

    async def test() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(in_own_thread(call), 0.01)

    asyncio.run(test())
    gate.set()
    assert ended.wait(300)
