"""A kill of a trigger, as Airflow's triggerer does it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Event

from airflow.jobs import triggerer_job_runner
from airflow.triggers.base import BaseTrigger

# Of Airflow: what it cancels with, from 3.3 on.
MESSAGE = getattr(triggerer_job_runner, "_USER_ACTION_CANCEL_MSG", "a person")
# Of Airflow: [triggerer] on_kill_timeout.
KILL_TIMEOUT = 30.0
# A triggerer takes a second for a turn.
TURN_SECONDS = 0.01


def kill(trigger: BaseTrigger, waits: Event | None = None, log_seconds: float = 0.0) -> None:
    """Run a trigger, and cancel it in each turn until it has ended.

    :param waits: is set when it is to be cancelled; at once without.
    :param log_seconds: how long it takes Airflow to say in the log that it cancels the trigger.
    """
    asyncio.run(_kill(trigger, waits, log_seconds))


async def _kill(trigger: BaseTrigger, waits: Event | None, log_seconds: float) -> None:
    running = asyncio.create_task(_run(trigger, log_seconds))
    await asyncio.sleep(0)
    if waits is not None:
        await asyncio.to_thread(waits.wait)
    while not running.done():
        running.cancel(MESSAGE)
        await asyncio.sleep(TURN_SECONDS)
    with suppress(asyncio.CancelledError):
        await running


async def _run(trigger: BaseTrigger, log_seconds: float) -> None:
    try:
        async for _ in trigger.run():
            pass
    except asyncio.CancelledError as cancellation:
        if cancellation.args == (MESSAGE,):
            await asyncio.sleep(log_seconds)
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(trigger.on_kill(), KILL_TIMEOUT)
        raise
    finally:
        await trigger.cleanup()
