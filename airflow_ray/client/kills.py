"""What a trigger does when a person has ended its task: it ends what it waits for."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger

from airflow_ray._compat import states_of
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.deferral import settings_of_id
from airflow_ray.client.failure_details import NOT_CANCELLED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ray.object_uri import ObjectURI

# For one answer of Airflow, or of a cluster.
KILL_SECONDS = 20.0


class EndingTrigger(BaseTrigger):
    """A trigger that ends what it waits for when a person has ended its task, and is not broken off in that.

    The triggerer of Airflow 3.3 and 3.4 cancels such a trigger once more in each of its turns, about every second,
    until the trigger has ended, and with it an ``on_kill`` that takes longer.
    """

    _ending: asyncio.Task[None] | None = None

    @abstractmethod
    async def end(self) -> None:
        """End what this waits for, and say so in the log if that cannot be done."""

    async def on_kill(self) -> None:
        """End what this waits for, unless the task waits for it still; Airflow calls this from version 3.3 on."""
        self._ending = asyncio.create_task(self._end_unless_deferred())
        await self.cleanup()
        self._ending.result()

    async def cleanup(self) -> None:
        """Return when all is ended that ``on_kill`` has begun to end: Airflow closes the log then.

        Before Python 3.12, Airflow's own limit lets go of an ``on_kill`` that is cancelled for the third time.
        """
        while self._ending is not None and not self._ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._ending])

    async def _end_unless_deferred(self) -> None:
        if await self._is_deferred():
            self.log.info("The task is deferred: what it waits for is left to the triggerer that has it now")
        else:
            await self.end()

    async def _is_deferred(self) -> bool:
        """Return whether the task waits still, as Airflow knows it.

        Airflow 3.3 calls ``on_kill`` also in a triggerer that has stood still while another one took its triggers.
        """
        ti = self.task_instance
        if ti is None:
            return False
        asking = in_own_thread(states_of, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        try:
            return await asyncio.wait_for(asking, KILL_SECONDS) == ["deferred"]
        # Whatever it is, a person may have ended the task.
        except Exception as error:
            self.log.warning("Airflow does not tell whether the task is deferred still: %s", reason_of(error))
            return False


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
        # Nobody else tells of it.
        except Exception as error:
            log.warning(NOT_CANCELLED, uri, reason_of(error), uri)


def reason_of(error: Exception) -> str:
    """Return why something was not done in time."""
    return str(error) or f"no answer within {KILL_SECONDS:g} seconds"
