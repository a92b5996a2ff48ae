"""A kill of a trigger, as Airflow's triggerer does it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from airflow.triggers.base import BaseTrigger

# Of Airflow: [triggerer] on_kill_timeout.
KILL_TIMEOUT = 30.0
# A triggerer takes a second for a turn.
TURN_SECONDS = 0.01


def kill(trigger: BaseTrigger) -> None:
    """Call ``on_kill`` and ``cleanup``, and cancel both again in each turn until they have ended."""
    asyncio.run(_kill(trigger))


async def _kill(trigger: BaseTrigger) -> None:
    begun = asyncio.Event()

    async def on_kill() -> None:
        begun.set()
        await trigger.on_kill()

    async def run_trigger() -> None:
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(on_kill(), KILL_TIMEOUT)
        finally:
            await trigger.cleanup()

    killing = asyncio.create_task(run_trigger())
    await begun.wait()
    while not killing.done():
        killing.cancel()
        await asyncio.sleep(TURN_SECONDS)
    killing.result()
