"""The trigger that waits in Airflow's triggerer, so that a waiting task holds no slot of a worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_ray._compat import trigger_log_path
from airflow_ray.client.base_trigger import KILL_SECONDS, RayTrigger
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.deferral import error_of as error_of
from airflow_ray.client.deferral import seconds_until, settings_of_id
from airflow_ray.client.failure_details import NOT_CANCELLED, why_not_done
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import AirflowRayError, RayClusterGoneError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.trigger_log import TriggerLog
    from airflow_ray.client.watcher import Subscription, Watcher

    News = asyncio.Queue[tuple[Subscription, dict[str, Any]]]
    Watchers = dict[tuple[str, str, str], Watcher]

ENDED = "ended"
TIMEOUT = "timeout"
ERROR = "error"


class RayObjectTrigger(RayTrigger):
    """Waits until objects are there, or the work that makes one of them has failed.

    All of these in one triggerer share one connection to each Ray cluster and one call to it an interval. The event's
    payload is a dict: ``status`` is ``ended``, ``timeout`` or ``error``, the last with ``type`` and ``message``;
    ``offset`` is the number of log lines that the task's log has; ``resume`` is what was given here.

    :param object_uris: the objects.
    :param holder: by which name the task that waits has submitted their work: what it writes appears in the task's log,
        work that is not known has ended, and a person who ends the task cancels it. None for whoever only waits.
    :param poll_interval: seconds between two calls to the cluster while nothing ends; an end comes at once.
    :param deadline: when to give up, in seconds since 1970; None never does.
    :param fetch_logs: show what the work writes.
    :param cancel_on_kill: whether a person who ends the task ends the work.
    :param credentials: of work whose credentials expire: for ``checkpoint`` and ``storage`` None or ``path`` and
        ``aws_conn_id`` of a :class:`~airflow_ray.client.checkpoints.location.CheckpointLocation`, and ``required``.
    :param resume: plain data for the task that goes on. Two fields of it count here too: ``offset``, the number of log
        lines that the task's log has already, and ``settle_seconds``, for how long the event is held at least, as
        :func:`~airflow_ray.client.deferral.seconds_to_settle` tells.
    """

    def __init__(
        self,
        object_uris: list[str],
        holder: str | None = None,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        fetch_logs: bool = True,
        credentials: dict[str, Any] | None = None,
        resume: dict[str, Any] | None = None,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.object_uris = object_uris
        self.holder = holder
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.fetch_logs = fetch_logs
        self.credentials = credentials
        self.resume = resume
        self.cancel_on_kill = cancel_on_kill
        # Not an argument of its own: a triggerer of an earlier release would not know it.
        self._offset: int | None = (resume or {}).get("offset")
        self._log_files: TriggerLog | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments, as Airflow keeps them."""
        of_work = "object_uris", "holder", "credentials", "resume", "cancel_on_kill"
        names = *of_work, "poll_interval", "deadline", "fetch_logs"
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    @property
    def ends_on_kill(self) -> bool:
        """Whether there is work of the task, which is to be cancelled."""
        return self.holder is not None and self.cancel_on_kill

    async def event(self) -> dict[str, Any]:
        """Return the payload of the one event."""
        try:
            status = await self._waited()
        except AirflowRayError as error:
            status = {"status": ERROR, "type": type(error).__name__, "message": str(error)}
        return {**status, "offset": self._offset}

    async def end(self) -> None:
        """Cancel the work."""
        for uri in map(ObjectURI.parse, self.object_uris):
            self.log.info("Cancelling %s", uri)
            try:
                await asyncio.wait_for(self._cancel(uri), KILL_SECONDS)
            # Nobody else tells of it.
            except Exception as error:
                self.log.warning(NOT_CANCELLED, uri, why_not_done(error, KILL_SECONDS), uri)

    async def _cancel(self, uri: ObjectURI) -> None:
        from airflow_ray.client.watcher import cancel

        await in_own_thread(cancel, uri, await settings_of_id(*uri.run), self.holder)

    async def _waited(self) -> dict[str, Any]:
        from airflow_ray.client.watcher import Subscription, watching

        loop = asyncio.get_running_loop()
        news: News = asyncio.Queue()
        await self._find_log_files()
        by_run: dict[tuple[str, str, str], list[Subscription]] = defaultdict(list)

        def deliver(subscription: Subscription, item: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(news.put_nowait, (subscription, item))

        for uri in map(ObjectURI.parse, self.object_uris):
            follows = self.holder is not None
            subscription = Subscription(uri, follows, self.poll_interval, deliver, self._offset)
            by_run[uri.run].append(subscription)
        with ExitStack() as stack:
            watchers = {
                run: stack.enter_context(watching(await settings_of_id(*run), subscriptions))
                for run, subscriptions in by_run.items()
            }
            refreshing = asyncio.create_task(self._keep_credentials(watchers))
            stack.callback(refreshing.cancel)
            try:
                await asyncio.wait_for(self._ended(news, watchers), seconds_until(self.deadline))
            except asyncio.TimeoutError:
                return {"status": TIMEOUT}
        return {"status": ENDED}

    async def _find_log_files(self) -> None:
        """Go on with the first line that no log file has, where this trigger comes in place of one that died."""
        from airflow_ray.client.trigger_log import TriggerLog

        path = trigger_log_path(self.task_instance)
        if path is None or self.holder is None or not self.fetch_logs or len(self.object_uris) > 1:
            return
        # The same for each trigger of one deferral, and another one when the work was submitted again.
        work = json.dumps([self.object_uris, self.holder, self.resume], sort_keys=True)
        self._log_files = TriggerLog(path, hashlib.sha256(work.encode()).hexdigest()[:12])
        self._offset = await self._log_files.begin(self.log.info) or self._offset

    async def _ended(self, news: News, watchers: Watchers) -> None:
        """Return when all have ended, or one in a way that lets the others not matter."""
        waiting = set(map(ObjectURI.parse, self.object_uris))
        while waiting:
            subscription, item = await news.get()
            if "error" in item:
                # Whoever waits for an object looks then whether it has a checkpoint, and waits again: not in a hurry.
                if isinstance(item["error"], RayClusterGoneError) and not subscription.follows:
                    await asyncio.sleep(self.poll_interval)
                raise item["error"]
            await self._show(item, None if subscription.follows else subscription.uri)
            self._offset = item["offset"]
            watchers[subscription.uri.run].confirm(subscription, self._offset)
            if item["ended"] and item["state"] != State.SUCCEEDED:
                return
            if item["ended"]:
                waiting.discard(subscription.uri)

    async def _show(self, item: dict[str, Any], awaited: ObjectURI | None) -> None:
        """Show what the work waits for and has written, and return when the log file has it.

        :param awaited: the object that is awaited, where its work is not followed.
        """
        # The owner of an earlier release does not tell.
        if item.get("detail") and awaited is not None:
            self.log.info("The task that makes %s waits for %s", awaited, item["detail"])
        elif item.get("detail"):
            self.log.info("Waiting for %s", item["detail"])
        if not self.fetch_logs:
            return
        from airflow_ray.client.remote_lines import with_methods
        from airflow_ray.client.trigger_log import show_lines

        if item["skipped"]:
            self.log.warning("%d lines of output were dropped before they could be read", item["skipped"])
        before = (item["offset"] or 0) - len(item["lines"])
        lines = list(with_methods(self.log, item["lines"], item.get("levels", "")))
        await show_lines(lines, before, self._log_files)

    async def _keep_credentials(self, watchers: Watchers) -> None:
        """Let the work have new credentials from time to time."""
        from airflow_ray.client.checkpoints import targets

        while self.credentials is not None:
            await asyncio.sleep(targets.REFRESH_SECONDS)
            for uri in map(ObjectURI.parse, self.object_uris):
                try:
                    await self._renew_credentials(uri, watchers[uri.run], **self.credentials)
                # Nobody waits for this task: whatever it raises would be seen by nobody, and be its last renewal.
                except Exception as error:
                    self.log.warning("%s", targets.not_renewed(uri, error))

    async def _renew_credentials(
        self,
        uri: ObjectURI,
        watcher: Watcher,
        checkpoint: dict[str, Any] | None,
        storage: dict[str, Any] | None,
        required: bool,
    ) -> None:
        from airflow_ray.client.checkpoints import CheckpointLocation, targets

        of_outputs = CheckpointLocation(**checkpoint) if checkpoint else None
        of_work = CheckpointLocation(**storage) if storage else None
        renewed = await sync_to_async(targets.targets_of)(uri, of_outputs, of_work, required)
        await in_own_thread(watcher.call, "refresh_credentials", uri.record_id, **renewed)


class RayJobTrigger(RayTrigger):
    """Waits until a job of Ray has ended, and shows what it writes.

    The event's payload is as that of :class:`RayObjectTrigger`, without an ``offset``.

    :param ray_conn_id: Airflow connection of type ``ray``.
    :param submission_id: the job.
    :param poll_interval: seconds between two questions for its status.
    :param deadline: when to give up, in seconds since 1970; None never does.
    :param fetch_logs: show what the job writes.
    :param resume: plain data for the task that goes on, and ``settle_seconds`` as for that. ``run`` in it, the ids of
        DAG and run, tells the cluster where the connection leads to one for each run; unset, it is that of the task.
    :param cancel_on_kill: whether a person who ends the task stops the job.
    """

    def __init__(
        self,
        ray_conn_id: str,
        submission_id: str,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        fetch_logs: bool = True,
        resume: dict[str, Any] | None = None,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cancel_on_kill = cancel_on_kill
        self.ray_conn_id = ray_conn_id
        self.submission_id = submission_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.fetch_logs = fetch_logs
        self.resume = resume

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments, as Airflow keeps them."""
        of_job = "ray_conn_id", "submission_id", "resume", "cancel_on_kill"
        names = *of_job, "poll_interval", "deadline", "fetch_logs"
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    @property
    def ends_on_kill(self) -> bool:
        """Whether the job is to be stopped."""
        return self.cancel_on_kill

    async def event(self) -> dict[str, Any]:
        """Return the payload of the one event."""
        try:
            await asyncio.wait_for(self._follow(), seconds_until(self.deadline))
        except asyncio.TimeoutError:
            return {"status": TIMEOUT}
        except AirflowRayError as error:
            return {"status": ERROR, "type": type(error).__name__, "message": str(error)}
        return {"status": ENDED}

    async def end(self) -> None:
        """Stop the job."""
        from airflow_ray.client.jobs.jobs import stop_or_tell

        settings = await asyncio.wait_for(self._settings(), KILL_SECONDS)
        await in_own_thread(stop_or_tell, settings, self.submission_id, 0.0, self.log)

    async def _settings(self) -> RaySettings:
        ti, told = self.task_instance, (self.resume or {}).get("run")
        return await settings_of_id(self.ray_conn_id, *(told or ([ti.dag_id, ti.run_id] if ti else [])))

    async def _follow(self) -> None:
        from airflow_ray.client.jobs.jobs import follow_in_triggerer

        job = self.submission_id, self.poll_interval, self.fetch_logs
        await follow_in_triggerer(await self._settings(), *job, self.log.info, trigger_log_path(self.task_instance))
