"""A kill of a trigger, as Airflow's triggerer does it."""

from __future__ import annotations

import asyncio

from airflow.triggers.base import BaseTrigger

# Of Airflow: [triggerer] on_kill_timeout.
KILL_TIMEOUT = 30.0
# A triggerer takes a second for a turn.
TURN_SECONDS = 0.01


def kill(trigger: BaseTrigger) -> None:
    """Call ``on_kill``, cancel it again in each turn, and return when all that it has begun has ended."""
    asyncio.run(_kill(trigger))


async def _kill(trigger: BaseTrigger) -> None:
    begun = asyncio.Event()

    async def on_kill() -> None:
        begun.set()
        await trigger.on_kill()

    killing = asyncio.create_task(asyncio.wait_for(on_kill(), KILL_TIMEOUT))
    await begun.wait()
    while not killing.done():
        killing.cancel()
        await asyncio.sleep(TURN_SECONDS)
    # The triggerer goes on, and so does what still runs in it.
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
