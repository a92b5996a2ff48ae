"""Which job of Ray a try of a task is: one of an earlier try that goes on, or a new one."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.dashboard import FINAL, SUCCEEDED, ids_of
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.dashboard import Dashboard
    from airflow_ray.cluster.protocol import TaskTry
    from airflow_ray.object_uri import ObjectURI

MAX_SLUG_LENGTH = 80
# Ray gives a job three seconds to end before it kills it.
STOP_SECONDS = 30.0
POLL_SECONDS = 0.5
RESULT_VARIABLE = "AIRFLOW_RAY_RESULT"
# Anybody may make files there; the reader takes none of another user.
_RESULT_PREFIX = "/tmp/airflow-ray-result-"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One try of a task.

    :param name: of the task's jobs, the same for each try.
    :param task_try: which try it is.
    :param generation: what is another one when the task was cleared.
    :param holder: another one for each execution.
    """

    name: str
    task_try: TaskTry
    generation: str
    holder: str

    def metadata(self, body: dict[str, Any]) -> dict[str, str]:
        """Return what a job of this attempt says of itself to the next ones."""
        return {
            "airflow_try_number": str(self.task_try["number"]),
            "airflow_ray_run": _digest(self.task_try["run"]),
            "airflow_ray_clearings": str(self.task_try["clearings"]),
            "airflow_ray_holder": self.holder,
            "airflow_ray_fingerprint": _digest([body, self.generation]),
        }

    def may_go_on_with(self, info: dict[str, Any], body: dict[str, Any]) -> bool:
        """Whether a job of an earlier try does what this one would; a first try goes on with none."""
        known, own = info.get("metadata") or {}, self.metadata(body)
        if any(known.get(name) != own[name] for name in ("airflow_ray_fingerprint", "airflow_ray_run")):
            return False
        if self.task_try["number"] <= max(1, int(known["airflow_try_number"])):
            return False
        is_uncleared = self.task_try["clearings"] is not None
        is_uncleared &= known["airflow_ray_clearings"] == own["airflow_ray_clearings"]
        return info["status"] not in FINAL or (info["status"] == SUCCEEDED and is_uncleared)


def job_name(namespace: str, uri: ObjectURI) -> str:
    """Return a name for the jobs of a task that can be read and that Ray takes: ASCII, without slashes.

    :param namespace: of the connection.
    :param uri: of the task, whose parts are told apart however they are spelt.
    """
    words = ["airflow", uri.dag_id, uri.task_id, *([str(uri.map_index)] if uri.map_index >= 0 else [])]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(words))[:MAX_SLUG_LENGTH].strip("-")
    return f"{slug}-{_digest([namespace, uri.record_id])[:12]}"


def result_path(job: str) -> str:
    """Return where a job leaves its result, on the node that its entrypoint runs on."""
    return f"{_RESULT_PREFIX}{job}"


def submit_job(
    dashboard: Dashboard, attempt: Attempt, body: dict[str, Any], with_result: bool, note: Callable[[str], None]
) -> str:
    """Return the id of the job that this attempt is: of an earlier try, or submitted here.

    What earlier tries have left running and is not the same is stopped first.

    :param body: as Ray's Jobs API takes it, without an id.
    :param with_result: whether the job gets to know where to leave one.
    :param note: takes note of each id before there is a job of it, which a kill must find.
    :raises RayConnectionError: it could not be submitted, or an earlier one does not end.
    """
    own = attempt.metadata(body)
    for job in ids_of(attempt.name):
        note(job)
        metadata = {**(body.get("metadata") or {}), **own}
        if dashboard.submit({**_with_result(body, job, with_result), "metadata": metadata, "submission_id": job}):
            log.info("Submitted the job %s", job)
            return job
        info = dashboard.job(job)
        known = info.get("metadata") or {}
        # The answer to the submission was lost.
        if known.get("airflow_ray_holder") == attempt.holder:
            return job
        if attempt.may_go_on_with(info, body):
            log.info("The job %s is %s already, by an earlier try: going on with that", job, info["status"])
            return job
        if info["status"] not in FINAL and "airflow_ray_holder" in known:
            log.info("Stopping the job %s of an earlier try, which would do something else", job)
            _end(dashboard, job)
    raise RayConnectionError(f"Too many jobs named {attempt.name} have run at {dashboard.url}")


def _with_result(body: dict[str, Any], job: str, with_result: bool) -> dict[str, Any]:
    if not with_result:
        return body
    env = body.get("runtime_env") or {}
    variables = {**(env.get("env_vars") or {}), RESULT_VARIABLE: result_path(job)}
    return {**body, "runtime_env": {**env, "env_vars": variables}}


def _end(dashboard: Dashboard, job: str) -> None:
    dashboard.stop(job)
    deadline = time.monotonic() + STOP_SECONDS
    while dashboard.job(job)["status"] not in FINAL:
        if time.monotonic() > deadline:
            raise RayConnectionError(
                f"The job {job} of an earlier try has not ended within {STOP_SECONDS:g} seconds after it was told to"
            )
        time.sleep(POLL_SECONDS)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
