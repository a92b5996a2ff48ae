"""What all triggers have in common: one event, and the end of what they wait for when a person has ended their task."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ray._compat import is_by_a_person, knows_reassigned_triggers, states_of
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.deferral import seconds_to_settle
from airflow_ray.client.failure_details import why_not_done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# For one answer of a cluster.
KILL_SECONDS = 20.0
# The first question of a triggerer loads Airflow's API there, which takes 8 s, and longer where processors are busy.
QUESTION_SECONDS = 120.0
_NOT_ENDED = "What the task has waited for could not be ended, and may go on: %s"


class RayTrigger(BaseTrigger):
    """A trigger of one event that ends what it waits for when a person has ended its task, and is not interrupted.

    The triggerer of Airflow 3.3 and 3.4 cancels such a trigger once more in each of its turns, about every second,
    until the trigger has ended, and with it an ``on_kill`` that takes longer.
    """

    #: Plain data for the task that goes on. ``settle_seconds`` in it is for how long the event is held at least.
    resume: dict[str, Any] | None
    # The states of a task in which it ends nothing.
    _leaves_in = frozenset({"deferred"})
    _waiting: asyncio.Task[dict[str, Any]] | None = None
    _ending: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def ends_on_kill(self) -> bool:
        """Whether there is anything to end."""

    @abstractmethod
    async def event(self) -> dict[str, Any]:
        """Return the payload of the one event, all but ``resume``, when there is nothing more to wait for."""

    @abstractmethod
    async def end(self) -> None:
        """End what this waits for, and say so in the log if that cannot be done."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event.

        The wait has a task of its own. With a text in the cancellation Airflow tells that a person has ended the task,
        and a ``sync_to_async`` that is cancelled loses the text: Airflow would not call :meth:`on_kill`.
        """
        self._waiting = waiting = asyncio.create_task(self._payload())
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as cancellation:
            waiting.cancel()
            # Airflow writes a line into the log first. Where that takes longer than its turn, it never calls on_kill.
            if is_by_a_person(cancellation):
                self._begin_to_end()
            raise
        yield TriggerEvent(waiting.result())  # type: ignore[no-untyped-call]

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

    async def _payload(self) -> dict[str, Any]:
        """Return the payload of the one event when it may be told."""
        told = (self.resume or {}).get("settle_seconds")
        settled = asyncio.create_task(asyncio.sleep(seconds_to_settle() if told is None else told))
        event = await self.event()
        await settled
        return {**event, "resume": self.resume}

    def _begin_to_end(self) -> None:
        if self._ending is None and self.ends_on_kill:
            self._ending = asyncio.create_task(self._end_unless_taken_over())

    async def _end_unless_taken_over(self) -> None:
        try:
            if not await self._is_taken_over():
                await self.end()
        # Airflow may listen no more.
        except Exception as error:
            self.log.warning(_NOT_ENDED, why_not_done(error, KILL_SECONDS))
        except asyncio.CancelledError:
            self.log.warning(_NOT_ENDED, "Airflow's triggerer ends")
            raise

    async def _is_taken_over(self) -> bool:
        """Return whether another triggerer may have taken this over.

        Airflow 3.3 calls ``on_kill`` also in a triggerer that has stood still until its triggers were given to others.
        """
        ti = self.task_instance
        try:
            if ti is None or knows_reassigned_triggers():
                return False
            asking = in_own_thread(states_of, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
            states = self._leaves_in.intersection(await asyncio.wait_for(asking, QUESTION_SECONDS))
        # Whatever it is, a person may have ended the task.
        except Exception as error:
            self.log.warning("Airflow does not tell the state of the task: %s", why_not_done(error, QUESTION_SECONDS))
            return False
        for state in states:
            self.log.info("Nothing is ended: the task is %s, and another triggerer may have taken it over", state)
        return bool(states)
