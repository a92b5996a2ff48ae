"""What a trigger does when a person has ended its task: it ends what it waits for."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger

from airflow_ray._compat import is_by_a_person, knows_reassigned_triggers, states_of
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.deferral import settings_of_id
from airflow_ray.client.failure_details import NOT_CANCELLED

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from airflow_ray.object_uri import ObjectURI

T = TypeVar("T")

# For one answer of a cluster.
KILL_SECONDS = 20.0
# The first question of a triggerer loads Airflow's API there, which takes 8 s, and longer where processors are busy.
QUESTION_SECONDS = 120.0


class EndingTrigger(BaseTrigger):
    """A trigger that ends what it waits for when a person has ended its task, and is not broken off in that.

    The triggerer of Airflow 3.3 and 3.4 cancels such a trigger once more in each of its turns, about every second,
    until the trigger has ended, and with it an ``on_kill`` that takes longer.
    """

    # The states of a task in which it ends nothing.
    _leaves_in = frozenset({"deferred"})
    _waiting: asyncio.Task[Any] | None = None
    _ending: asyncio.Task[None] | None = None

    @abstractmethod
    async def end(self) -> None:
        """End what this waits for, and say so in the log if that cannot be done."""

    async def result_of(self, wait: Coroutine[Any, Any, T]) -> T:
        """Return what the wait of this trigger returns.

        It has a task of its own. With a text in the cancellation Airflow tells that a person has ended the task, and a
        ``sync_to_async`` that is cancelled loses the text: Airflow would not call ``on_kill``.
        """
        self._waiting = waiting = asyncio.create_task(wait)
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as cancellation:
            waiting.cancel()
            # Airflow writes a line into the log first. Where that takes longer than its turn, it never calls on_kill.
            if is_by_a_person(cancellation):
                self._begin_to_end()
            raise
        return waiting.result()

    async def on_kill(self) -> None:
        """End what this waits for, unless another triggerer has taken it over; Airflow calls this from 3.3 on."""
        self._begin_to_end()
        await self.cleanup()

    async def cleanup(self) -> None:
        """Return when the wait has ended, and all that is to be ended: Airflow closes the log then.

        Before Python 3.12, Airflow's own limit lets go of an ``on_kill`` that is cancelled for the third time.
        """
        tasks = [each for each in (self._waiting, self._ending) if each is not None]
        while not all(each.done() for each in tasks):
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)

    def _begin_to_end(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_unless_taken_over())

    async def _end_unless_taken_over(self) -> None:
        try:
            if not await self._is_taken_over():
                await self.end()
        # Airflow may listen no more.
        except Exception as error:
            self.log.warning("What the task has waited for could not be ended, and may go on: %s", error)

    async def _is_taken_over(self) -> bool:
        """Return whether another triggerer may have taken this over.

        Airflow 3.3 calls ``on_kill`` also in a triggerer that has stood still until its triggers were given to others.
        """
        ti = self.task_instance
        try:
            if ti is None or knows_reassigned_triggers():
                return False
            asking = in_own_thread(states_of, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
            states = await asyncio.wait_for(asking, QUESTION_SECONDS)
        # Whatever it is, a person may have ended the task.
        except Exception as error:
            self.log.warning("Airflow does not tell the state of the task: %s", reason_of(error, QUESTION_SECONDS))
            return False
        if not self._leaves_in.intersection(states):
            return False
        self.log.info("Nothing is ended: the task is %s, and another triggerer may have taken it over", states[0])
        return True


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
            log.warning(NOT_CANCELLED, uri, reason_of(error, KILL_SECONDS), uri)


def reason_of(error: Exception, seconds: float) -> str:
    """Return why something was not done within some seconds."""
    # Before Python 3.11, that of asyncio is another one.
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {seconds:g} seconds"
    return str(error) or type(error).__name__
