"""Follows a job to its end: its output as it comes, what it waits for, and its last status."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client.connection.dashboard import FINAL, PENDING
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import is_passing
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.jobs.output import LineReader, OutputBrokenError, stored, tailed
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow_ray.client.connection.dashboard import Dashboard

# The job goes on without the dashboard, which may be started anew.
AWAY_SECONDS = 600.0
AWAY_PAUSE_SECONDS = 5.0
# A short job is asked for more often: its end is to be known soon.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_STREAM_PAUSE_SECONDS = 300.0

log = logging.getLogger(__name__)


class JobNews(NamedTuple):
    """News of a job.

    :param lines: of its output, in order and none twice.
    :param detail: what it waits for, where that has changed.
    """

    lines: list[str]
    detail: str | None = None


class JobFollower:
    """Follows one job.

    :param dashboard: of its cluster.
    :param job: its id.
    :param poll_interval: seconds between two questions for its status.
    :param with_output: whether its output is wanted.
    :param shown: how many lines of it are known already.
    """

    def __init__(
        self, dashboard: Dashboard, job: str, poll_interval: float, with_output: bool = True, shown: int = 0
    ) -> None:
        self._dashboard = dashboard
        self._job = job
        self._poll_interval = poll_interval
        self._with_output = with_output
        self._reader = LineReader(shown)
        self._is_whole = False
        #: What the dashboard has said of the job last.
        self.info: dict[str, Any] = {}

    async def news(self) -> AsyncGenerator[JobNews, None]:
        """Yield news until the job has ended.

        :raises RayJobLostError: the cluster does not know it any more.
        :raises RayConnectionError: the dashboard was away for too long, or wants another token.
        """
        detail, pause = None, FIRST_PAUSE_SECONDS
        stream_at, stream_pause = 0.0, FIRST_PAUSE_SECONDS
        while not await self._has_ended():
            waits_for = self.info.get("message") if self.info["status"] == PENDING else None
            if waits_for and waits_for != detail:
                yield JobNews([], waits_for)
            detail = waits_for
            if self._with_output and self.info["status"] != PENDING and time.monotonic() >= stream_at:
                shown = self._reader.shown
                async for lines in self._tail():
                    yield JobNews(lines)
                if await self._has_ended():
                    break
                # One that ends before the job does may do so each time, after all that came before.
                is_useful = self._reader.shown > shown
                stream_pause = FIRST_PAUSE_SECONDS if is_useful else min(2 * stream_pause, LONGEST_STREAM_PAUSE_SECONDS)
                stream_at = time.monotonic() + stream_pause
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self._poll_interval)
        # One that could not be started has none.
        if self._with_output and self.info.get("driver_node_id"):
            async for lines in self._rest():
                yield JobNews(lines)

    async def _has_ended(self) -> bool:
        """Ask for the status, for as long as it takes a dashboard to be started anew."""
        since = time.monotonic()
        while True:
            try:
                self.info = await in_own_thread(self._dashboard.job, self._job)
                return self.info["status"] in FINAL
            except RayConnectionError as error:
                if not is_passing(error) or time.monotonic() > since + AWAY_SECONDS:
                    raise
                log.warning("%s The job goes on meanwhile. Trying again.", sentence_of(error))
                await asyncio.sleep(AWAY_PAUSE_SECONDS)

    async def _tail(self) -> AsyncGenerator[list[str], None]:
        """Yield new lines as they come, until the job or the stream has ended."""
        try:
            async for lines in self._lines_of(tailed(self._dashboard, self._job, self._poll_interval, self._has_ended)):
                yield lines
        except OutputBrokenError as error:
            log.info("The output of the job cannot be followed at the moment: %s", error)

    async def _rest(self) -> AsyncGenerator[list[str], None]:
        """Yield what is still to come of the output of a job that has ended.

        Ray ends a stream that has failed within the cluster like one that is whole, so all is read once more.
        """
        node_id = self.info["driver_node_id"]
        for is_last in (False, False, True):
            try:
                async for lines in self._lines_of(stored(self._dashboard, self._job, node_id)):
                    yield lines
                break
            except OutputBrokenError as error:
                if is_last and not self._is_whole:
                    log.warning("The output of the job after line %d could not be read: %s", self._reader.shown, error)
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
        if last := self._reader.end():
            yield last

    async def _lines_of(self, texts: AsyncGenerator[str, None]) -> AsyncGenerator[list[str], None]:
        has_begun = False
        async for text in texts:
            if not has_begun:
                self._reader.begin()
            has_begun = True
            if lines := self._reader.feed(text):
                yield lines
        self._is_whole = True
