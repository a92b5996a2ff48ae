"""What a trigger does when a person has ended its task: it ends what it waits for."""

from __future__ import annotations

import asyncio
import functools
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async

from airflow_ray._compat import states_of
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.deferral import settings_of_id
from airflow_ray.client.failure_details import NOT_CANCELLED
from airflow_ray.exceptions import AirflowRayError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from airflow.triggers.base import BaseTrigger

    from airflow_ray.object_uri import ObjectURI

Trigger = TypeVar("Trigger", bound="BaseTrigger")

# Airflow waits for half a minute, unless [triggerer] on_kill_timeout says otherwise.
KILL_SECONDS = 20.0


def by_a_person(
    on_kill: Callable[[Trigger], Coroutine[Any, Any, None]],
) -> Callable[[Trigger], Coroutine[Any, Any, None]]:
    """Let a trigger's ``on_kill`` do what it does where a person has ended the task, and all of it.

    Airflow 3.3 calls it also in a triggerer that has stood still while another one took its triggers, which waits for
    the same work. The task is deferred then.

    The triggerer of Airflow 3.3 and 3.4 cancels such a trigger once more in each of its turns, about every second,
    until the trigger has ended. That would break off an ``on_kill`` that takes longer.
    """

    @functools.wraps(on_kill)
    async def whole(trigger: Trigger) -> None:
        killing = asyncio.create_task(_unless_deferred(trigger, on_kill))
        while not killing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([killing])
        killing.result()

    return whole


async def _unless_deferred(trigger: Trigger, on_kill: Callable[[Trigger], Coroutine[Any, Any, None]]) -> None:
    ti = trigger.task_instance
    # Airflow answers only threads of this kind.
    states = ti and await sync_to_async(states_of)(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    if states == ["deferred"]:
        trigger.log.info("The task is deferred still: another triggerer waits for its work now")
    else:
        await on_kill(trigger)


async def cancel_work(uris: Iterable[ObjectURI], holder: str, log: Any) -> None:
    """Cancel the work of a holder that makes these objects, and say so in the log if that could not be done.

    :param log: of the trigger.
    """
    from airflow_ray.client.watcher import cancel

    for uri in uris:
        log.info("Cancelling %s", uri)
        try:
            cancelling = in_own_thread(cancel, uri, await settings_of_id(*uri.run), holder)
            await asyncio.wait_for(cancelling, KILL_SECONDS)
        except (AirflowRayError, asyncio.TimeoutError) as error:
            reason = str(error) or f"no answer within {KILL_SECONDS:g} seconds"
            log.warning(NOT_CANCELLED, uri, reason, uri)
