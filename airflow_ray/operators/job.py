"""The operator that runs a script that is there already as a job of Ray."""

from __future__ import annotations

import asyncio
import contextvars
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal

from airflow_ray._compat import AirflowTaskTimeout
from airflow_ray.client.connection.threads import run_in_thread
from airflow_ray.client.deferral import seconds_of_start, seconds_to_settle
from airflow_ray.client.submission.rendered import mapping
from airflow_ray.client.submission.result_policy import check_result
from airflow_ray.exceptions import (
    AirflowRayError,
    RayConfigurationError,
    RayJobResultError,
    RayTaskCancelledError,
    RayTaskFailedError,
)
from airflow_ray.operators.base import KILL_SECONDS, RayOperator
from airflow_ray.operators.dashboard_link import RayDashboardLink
from airflow_ray.operators.log_lines import show_checkpoint, show_result
from airflow_ray.operators.remote_call import RemoteCall
from airflow_ray.operators.tries import generation, task_try

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_ray.client.progress import Progress
    from airflow_ray.object_uri import ObjectURI

# Of a callable that Ray runs, not of a command.
_NOT_OF_JOBS = ("fresh_process", "max_retries", "ray_options", "scheduling_timeout")


class RaySubmitJobOperator(RayOperator):
    """Runs a command as a job of Ray, shows what it writes, and succeeds when it does.

    A retry goes on with the job of an earlier try that runs still, or has succeeded unseen; to clear the task begins
    anew, and what ran before is stopped. It needs the dashboard of the cluster alone, and no Ray in Airflow.

    With ``result`` the command also leaves a value: it writes a pickle, a Parquet or Arrow file, or JSON to where the
    environment variable ``AIRFLOW_RAY_RESULT`` says. That becomes the object of this task, as what a callable returns,
    for which the connection must reach the cluster itself too.

    :param entrypoint: the command, such as ``python train.py --epochs 3``. It runs on the head, or where ``num_cpus``
        and the others ask for something, on a node that has it (templated).
    :param metadata: texts that the job is kept with, besides DAG, run, task, map index and try (templated).
    :param result: None returns the id of the job; ``ref`` the object URI of what it leaves; ``value`` that itself,
        which must be JSON of 1 MB at most.
    :param num_cpus: CPUs to reserve for the command itself, not for the tasks that it starts (templated). So are
        ``num_gpus``, ``memory``, which is one amount here and no list, and ``resources``.
    :param runtime_env: Ray runtime environment of the job. ``working_dir`` and ``py_modules`` may be folders, zip files
        or wheels of this machine, relative to the folder of the DAG's file; they are uploaded (templated).
    :param poll_interval: seconds between two questions for the status of the job.
    :param kwargs: arguments of :class:`~airflow_ray.operators.arguments.RayArguments`: connection, checkpoint of the
        result, deferral.
    :raises RayConfigurationError: an argument is wrong.

    >>> trained = RaySubmitJobOperator(
    ...     task_id="train", entrypoint="python train.py", runtime_env={"working_dir": "scripts"}, result="ref"
    ... )
    """

    template_fields: Sequence[str] = ("entrypoint", "metadata", *RayOperator.template_fields)
    template_fields_renderers = {"entrypoint": "bash", "metadata": "json", **RayOperator.template_fields_renderers}

    # It only reads what the job has left.
    _tells_what_is_used = False
    # Of the job that a kill has to stop; before it is submitted, of the one that it may become.
    _job = ""
    # The job whose result is read, and the id of its node.
    _source: dict[str, str] = {}

    def __init__(
        self,
        *,
        entrypoint: str,
        metadata: Mapping[str, str] | str | None = None,
        result: Literal["ref", "value"] | None = None,
        num_cpus: float | str = 0,
        **kwargs: Any,
    ) -> None:
        if wrong := [name for name in _NOT_OF_JOBS if name in kwargs]:
            raise RayConfigurationError(f"A job takes no {', '.join(wrong)}: only tasks with a callable do")
        super().__init__(num_cpus=num_cpus, **kwargs)
        if isinstance(self.memory, (list, tuple)):
            raise RayConfigurationError(
                "memory of a job is one amount: Ray does not tell of a job that it ran out of memory, so no try could "
                "take the next amount of a list"
            )
        if result is not None:
            check_result(result, self.checkpoint)
        elif self.checkpoint:
            raise RayConfigurationError("checkpoint=True needs a result: set result='ref'")
        self.entrypoint = entrypoint
        self.metadata = metadata
        self.result = result

    def execute(self, context: Context) -> Any:
        """Run the job, wait for it and return what the task returns."""
        from airflow_ray.client.jobs.attempts import Attempt, job_name
        from airflow_ray.client.jobs.jobs import begin_job, packed_runtime_env, page_of

        start_seconds = seconds_of_start(context)
        deadline = None
        if self.execution_timeout is not None:
            deadline = time.time() + self.execution_timeout.total_seconds()
        uri = self._uri_of(context)
        self._run = uri.dag_id, uri.run_id
        ti, settings = context["ti"], self.client.settings
        self._holder = uuid.uuid4().hex
        of_task = uri.dag_id, uri.run_id, uri.task_id, uri.map_index
        of_try = task_try(self, context, self._holder)
        attempt = Attempt(job_name(settings.namespace, uri), of_try, generation(context), self._holder)
        keys = "airflow_dag_id", "airflow_run_id", "airflow_task_id", "airflow_map_index"
        metadata = {str(name): str(text) for name, text in mapping("metadata", self.metadata).items()}
        metadata |= {key: str(part) for key, part in zip(keys, of_task, strict=True)}
        try:
            options = {
                "num_cpus": self.num_cpus,
                "num_gpus": self.num_gpus,
                "memory": self.memory,
                "resources": self.ray_resources,
                "runtime_env": packed_runtime_env(settings, self.runtime_env, self._folder()),
            }
            self._job = begin_job(
                settings, attempt, self.entrypoint, metadata, options, self.result is not None, self._note
            )
            if self._is_killed:
                # The kill came before the request did, and found no job.
                job = self._job
                self.on_kill()
                raise RayTaskCancelledError(f"The task was killed as it submitted the job {job}")
            # Let the UI lead to the job while it runs.
            ti.xcom_push(RayDashboardLink().xcom_key, page_of(settings, self._job))
            resume = {"job": self._job, "holder": self._holder, "deadline": deadline, "submissions": 1}
            resume["start_seconds"] = start_seconds
            if self.deferrable:
                self._defer_job(resume)
            # In the main thread asyncio would log what a signal raises, such as a timeout, and go on.
            in_context = contextvars.copy_context().run
            run_in_thread(lambda: in_context(asyncio.run, self._show_output()))
            return self._after_job(context, resume)
        except AirflowTaskTimeout:
            self.on_kill()
            raise

    def job_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when :class:`~airflow_ray.triggers.RayJobTrigger` has waited for the job.

        :param event: what the trigger tells.
        """
        from airflow_ray import triggers

        resume, uri = event["resume"], self._uri_of(context)
        self._run = uri.dag_id, uri.run_id
        self._job, self._holder = resume["job"], resume["holder"]
        if event["status"] == triggers.TIMEOUT:
            self.on_kill()
            raise AirflowTaskTimeout(f"The job had not ended within execution_timeout={self.execution_timeout}")
        if event["status"] == triggers.ERROR:
            raise triggers.error_of(event)
        return self._after_job(context, resume)

    def on_kill(self) -> None:
        """Stop the job, and say so in the log if that could not be done; or else the reading of its result."""
        from airflow_ray.client.jobs.jobs import stop_or_tell

        super().on_kill()
        job, self._job = self._job, ""
        if job and not self.cancel_on_kill:
            self.log.info("The job %s goes on without this task, since cancel_on_kill is off", job)
        # Airflow may call once more, when the connection of the task is closed.
        elif job and not stop_or_tell(self.client.settings, job, KILL_SECONDS, self.log):
            self._job = job

    async def _show_output(self) -> None:
        from airflow_ray.client.jobs.following import JobFollower
        from airflow_ray.client.jobs.jobs import open_dashboard

        with open_dashboard(self.client.settings) as dashboard:
            async for news in JobFollower(dashboard, self._job, self.poll_interval, self.fetch_logs).news():
                if news.detail:
                    self.log.info("Waiting for the job: %s", news.detail)
                for line in news.lines:
                    self.log.info(line)

    def _defer_job(self, resume: dict[str, Any]) -> None:
        from airflow_ray.triggers import RayJobTrigger

        trigger = RayJobTrigger(
            ray_conn_id=self.ray_conn_id,
            submission_id=self._job,
            poll_interval=self.poll_interval,
            deadline=resume["deadline"],
            fetch_logs=self.fetch_logs,
            resume={**resume, "run": self._run, "settle_seconds": seconds_to_settle(resume["start_seconds"])},
            cancel_on_kill=self.cancel_on_kill,
        )
        self.defer(trigger=trigger, method_name="job_complete")

    def _after_job(self, context: Context, resume: dict[str, Any]) -> Any:
        """Return what the task returns after a job that has ended, whoever has waited for that."""
        from airflow_ray.client.jobs.jobs import job_info, require_success

        info = job_info(self.client.settings, resume["job"])
        require_success(resume["job"], info)
        self._job = ""
        if self.result is None:
            return resume["job"]
        uri = self._uri_of(context)
        self._source = {"job": resume["job"], "node": info["driver_node_id"]}
        with self._connected(uri):
            self._submit(uri, context)
            return self._completed(uri, context, {**resume, "source": self._source})

    def _remote_call(self, context: Context) -> RemoteCall:
        from airflow_ray.client.jobs.jobs import packed_runtime_env
        from airflow_ray.client.jobs.results import reading_of

        runtime_env = packed_runtime_env(self.client.settings, self.runtime_env, self._folder())
        reading = reading_of(self._source["job"], self._source["node"], runtime_env)
        return RemoteCall(reading.function, reading.args, {}, {**reading.options, "result": self.result})

    def _completed(
        self,
        uri: ObjectURI,
        context: Context,
        resume: dict[str, Any],
        offset: int | None = None,
        has_ended: bool = False,
    ) -> Any:
        self._source = resume["source"]
        try:
            return super()._completed(uri, context, resume, offset, has_ended)
        except RayTaskFailedError as error:
            raise RayJobResultError(
                f"The Ray job has succeeded, and its result cannot be taken: {error.exception_type}: "
                f"{error.exception_message}. Correct the script, and clear the task to run it again."
            ) from error

    def _returned(self, uri: ObjectURI, progress: Progress) -> Any:
        record: dict[str, Any] = progress.record or {}
        (output,) = record["outputs"].values()
        show_result(self.log, output, record, str(uri) if self.result == "ref" else None)
        show_checkpoint(self.log, output.get("checkpoint"))
        self._remove_file(uri)
        return str(uri) if self.result == "ref" else progress.value

    def _remove_file(self, uri: ObjectURI) -> None:
        """Remove what the jobs of this task have left on their node."""
        from airflow_ray.client.jobs.attempts import job_name
        from airflow_ray.client.jobs.results import remove_results

        name = job_name(self.client.settings.namespace, uri)
        try:
            remove_results(self.client, name, self._source["node"])
        except AirflowRayError as error:
            self.log.info("The file of the result stays on its node: %s", error)

    def _note(self, job: str) -> None:
        """Take note of the job that is to be submitted now; a kill that comes later finds what to stop."""
        self._require_not_killed()
        self._job = job

    def _folder(self) -> str:
        """Return the folder that a relative path in the runtime environment is relative to."""
        dag = self.get_dag()
        return dag.folder if dag is not None else "."
