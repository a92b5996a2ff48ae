"""What the operator and the trigger of jobs ask of a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.dashboard import FINAL, STOPPED, SUCCEEDED, Dashboard, dashboard_url
from airflow_ray.client.connection.retrying import is_passing, tries
from airflow_ray.client.connection.threads import await_result, start_in_thread
from airflow_ray.client.failure_details import why_not_done
from airflow_ray.client.jobs.attempts import submit_job
from airflow_ray.client.jobs.following import JobFollower
from airflow_ray.client.jobs.packages import with_packages
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.trigger_log import TriggerLog, show_lines
from airflow_ray.exceptions import (
    RayConfigurationError,
    RayJobFailedError,
    RayJobLostError,
    RayJobStoppedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.jobs.attempts import Attempt

# For the log of a task that is killed: job, reason, the job once more, and the address of the dashboard.
NOT_STOPPED = (
    "The job %s could not be stopped and may go on on the Ray cluster: %s. When the dashboard answers again, stop it "
    "with: ray job stop %s --address %s"
)
# A task that is killed has 5 seconds before SIGKILL.
KILL_SECONDS = 4.0


def open_dashboard(settings: RaySettings) -> Dashboard:
    """Return the dashboard of a connection.

    :raises RayConfigurationError: the connection tells none.
    :raises RayConnectionError: the cluster of the run is gone, or its address is not known.
    """
    if settings.dashboard_url is None:
        settings = settings.located()
    return Dashboard(dashboard_url(settings), settings)


def page_of(settings: RaySettings, job: str) -> str:
    """Return the address of the page of a job."""
    return f"{dashboard_url(settings).rstrip('/')}/#/jobs/{job}"


def packed_runtime_env(settings: RaySettings, runtime_env: Any, folder: str) -> dict[str, Any]:
    """Return a runtime environment of which the cluster has all; what is here is uploaded.

    :param folder: what a relative path in it is relative to.
    :raises RayConfigurationError: it is none.
    :raises RayConnectionError: something could not be uploaded.
    """
    with open_dashboard(settings) as dashboard:
        return tries(settings.connect_timeout)(with_packages, runtime_env, dashboard, folder)


def begin_job(
    settings: RaySettings,
    attempt: Attempt,
    entrypoint: str,
    metadata: dict[str, str],
    options: dict[str, Any],
    with_result: bool,
    note: Callable[[str], None],
) -> str:
    """Return the id of the job of a try: see :func:`~airflow_ray.client.jobs.attempts.submit_job`.

    :param options: of the entrypoint: ``num_cpus``, ``num_gpus``, ``memory``, ``resources``, ``runtime_env``.
    :raises RayConfigurationError: one of them is wrong.
    """
    if not entrypoint.strip():
        raise RayConfigurationError("entrypoint must be a command, and is empty")
    given = RemoteOptions(**options).for_ray(settings.runtime_env)
    body = {
        "entrypoint": entrypoint,
        "runtime_env": given.get("runtime_env", {}),
        "metadata": metadata,
        "entrypoint_num_cpus": given["num_cpus"],
        "entrypoint_num_gpus": given["num_gpus"],
        "entrypoint_memory": given.get("memory", 0),
        "entrypoint_resources": given.get("resources", {}),
    }
    with open_dashboard(settings) as dashboard:
        return tries(settings.connect_timeout)(submit_job, dashboard, attempt, body, with_result, note)


def job_info(settings: RaySettings, job: str) -> dict[str, Any]:
    """Return what is known of a job.

    :raises RayJobLostError: nothing is.
    """
    with open_dashboard(settings) as dashboard:
        return tries(settings.connect_timeout)(dashboard.job, job)


def stop_job(settings: RaySettings, job: str, seconds: float) -> None:
    """Let a job end that runs, or is about to be submitted.

    :param seconds: for how long one that is not known yet is looked for.
    :raises RayJobLostError: it does not come to be known.
    :raises RayConnectionError: the dashboard does not answer, or refuses the token.
    """
    with open_dashboard(settings) as dashboard:
        tries(seconds, _may_still_stop)(_stop, dashboard, job)


def _stop(dashboard: Dashboard, job: str) -> None:
    if dashboard.job(job)["status"] not in FINAL:
        dashboard.stop(job)


def _may_still_stop(error: BaseException) -> bool:
    return isinstance(error, RayJobLostError) or is_passing(error)


async def follow_in_triggerer(
    settings: RaySettings,
    job: str,
    poll_interval: float,
    with_output: bool,
    say: Callable[..., Any],
    path: Path | None,
) -> None:
    """Return when a job has ended, and its output is in the log of the trigger.

    :param say: writes a line into that.
    :param path: what the names of its files begin with, where they are known: another trigger may have begun them.
    :raises AirflowRayError: as :meth:`JobFollower.news`.
    """
    files = TriggerLog(path, job) if path and with_output else None
    shown = (await files.begin(say) or 0) if files else 0
    with await asyncio.to_thread(open_dashboard, settings) as dashboard:
        async for news in JobFollower(dashboard, job, poll_interval, with_output, shown).news():
            if news.detail:
                say("Waiting for the job: %s", news.detail)
            await show_lines([(line, say) for line in news.lines], shown, files)
            shown += len(news.lines)


def stop_or_tell(settings: RaySettings, job: str, seconds: float, log: Any) -> bool:
    """Stop a job as :func:`stop_job` does, and return False where that could not be done; the log tells.

    :param log: of the task or of its trigger.
    """
    log.info("Stopping the job %s", job)
    stopping = start_in_thread(lambda: stop_job(settings, job, seconds))
    try:
        await_result(stopping, KILL_SECONDS)
    except Exception as error:
        log.warning(NOT_STOPPED, job, why_not_done(error, KILL_SECONDS), job, dashboard_url(settings))
        return False
    return True


def require_success(job: str, info: dict[str, Any]) -> None:
    """Return if a job has succeeded.

    :param info: what the dashboard says of it.
    :raises RayJobStoppedError: it was stopped.
    :raises RayJobFailedError: it has failed; the text has what it has said last.
    """
    if info["status"] == SUCCEEDED:
        return
    if info["status"] == STOPPED:
        raise RayJobStoppedError(f"The Ray job {job} was stopped. Clear the task to run it again.")
    raise RayJobFailedError(f"The Ray job {job} has failed: {info.get('message') or 'Ray does not say why'}")
