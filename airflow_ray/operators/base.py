"""What all operators have in common that run something on a Ray cluster."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import AirflowTaskTimeout, bundle_folders, region_of
from airflow_ray.client import object_xcom
from airflow_ray.client.connection.threads import await_result, start_in_thread
from airflow_ray.client.deferral import seconds_of_start, seconds_to_settle
from airflow_ray.client.failure_details import NOT_CANCELLED, why_not_done
from airflow_ray.client.forks import cached_property
from airflow_ray.client.metrics import tell_end
from airflow_ray.client.submission.rendered import value_or_none
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import RayTaskCancelledError
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.arguments import RayArguments
from airflow_ray.operators.assets import tell_assets
from airflow_ray.operators.dashboard_link import RayDashboardLink
from airflow_ray.operators.lineage import TellsLineage
from airflow_ray.operators.log_lines import show_progress, show_spilling, show_used
from airflow_ray.operators.tries import generation, task_try

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_ray.client.checkpoints import CheckpointLocation
    from airflow_ray.client.client import RayClient
    from airflow_ray.client.progress import Progress
    from airflow_ray.client.submission.submitter import Submission
    from airflow_ray.operators.remote_call import RemoteCall

# A task that is killed has 5 seconds before SIGKILL.
KILL_SECONDS = 4.0
SUBMISSIONS = 3
# Work that ends sooner is not worth a deferral, which takes as long and costs another process.
SHORT_SECONDS = 10.0
SHORT_POLL_SECONDS = 1.0


class RayOperator(RayArguments, TellsLineage):
    """Submits a callable to a Ray cluster under the object URI of its task, and waits for it.

    The common base of the operators; what each runs is in :meth:`_remote_call`.
    """

    # Whether the work on the cluster is what the task is for.
    _tells_what_is_used = True
    # Ids of DAG and run, which tell the cluster.
    _run: tuple[str | None, str | None] = (None, None)
    # Of the work that a kill has to cancel.
    _uri: ObjectURI | None = None
    # Also where there was nothing to cancel yet.
    _is_killed = False
    # An earlier try of which Airflow has lost sight may end late, and must not cancel what a new one goes on with.
    _holder = ""

    @abstractmethod
    def _remote_call(self, context: Context) -> RemoteCall:
        """Return what is to run, from the rendered templates."""

    @abstractmethod
    def _returned(self, uri: ObjectURI, progress: Progress) -> Any:
        """Return what the task returns to Airflow when its work has succeeded."""

    @cached_property
    def client(self) -> RayClient:
        """What the operator asks the cluster by."""
        from airflow_ray.client.client import RayClient

        return RayClient(self.ray_conn_id, *self._run)

    def execute(self, context: Context) -> Any:
        """Run the callable on the cluster, wait for it and return what the task returns."""
        start_seconds = seconds_of_start(context)
        deadline = None
        if self.execution_timeout is not None:
            deadline = time.time() + self.execution_timeout.total_seconds()
        uri = self._uri_of(context)
        self._run = uri.dag_id, uri.run_id
        self._holder = uuid.uuid4().hex
        resume = {"submissions": 1, "deadline": deadline, "holder": self._holder, "start_seconds": start_seconds}
        with self._connected(uri):
            submission = self._submit(uri, context)
            # Let the UI lead to the Ray dashboard while the work goes on.
            context["ti"].xcom_push(RayDashboardLink().xcom_key, submission.dashboard_page or "")
            return self._completed(uri, context, resume)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when :class:`~airflow_ray.triggers.RayObjectTrigger` has waited for the work.

        :param event: what the trigger tells.
        """
        from airflow_ray import triggers

        uri = self._uri_of(context)
        self._run = uri.dag_id, uri.run_id
        self._holder = event["resume"]["holder"]
        # There is work to cancel before there is a connection.
        self._uri = uri
        with self._connected(uri):
            if event["status"] == triggers.TIMEOUT:
                raise AirflowTaskTimeout(f"The work had not ended within execution_timeout={self.execution_timeout}")
            if event["status"] == triggers.ERROR:
                raise triggers.error_of(event)
            return self._completed(uri, context, event["resume"], offset=event["offset"], has_ended=True)

    def on_kill(self) -> None:
        """Cancel the remote work, and say so in the log if that could not be done."""
        self._is_killed = True
        uri, self._uri = self._uri, None
        if uri is None:
            return
        if not self.cancel_on_kill:
            self.log.info("%s goes on without this task, since cancel_on_kill is off", uri)
            return
        self.log.info("Cancelling %s", uri)
        # A cluster that does not answer must not hold up the end of the task.
        cancel = start_in_thread(lambda: self.client.link.call_from_aside("cancel", uri.record_id, self._holder))
        try:
            await_result(cancel, KILL_SECONDS)
        except Exception as error:
            self.log.warning(NOT_CANCELLED, uri, why_not_done(error, KILL_SECONDS), uri)
            # Airflow may call once more, when the connection of the task is closed.
            self._uri = uri

    def _uri_of(self, context: Context) -> ObjectURI:
        ti = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        # All iterations of a loop share the other parts; without a loop the map index is enough.
        region = region_of(ti) if context.get("loop") is not None else ""
        return ObjectURI(self.ray_conn_id, ti.dag_id, ti.run_id, ti.task_id, map_index, region=region)

    @contextmanager
    def _connected(self, uri: ObjectURI) -> Iterator[None]:
        with self.client.connect():
            # Known before the work is: a kill in between still finds what to cancel.
            self._uri = uri
            try:
                yield
            except AirflowTaskTimeout:
                # Airflow calls on_kill as well, but only after the connection is closed.
                self.on_kill()
                raise

    def _completed(
        self,
        uri: ObjectURI,
        context: Context,
        resume: dict[str, Any],
        offset: int | None = None,
        has_ended: bool = False,
    ) -> Any:
        """Wait for the work and return what the task returns; submit it again where an input was lost under way.

        :param resume: number of ``submissions``, the ``deadline`` in seconds since 1970 or None, the ``holder``, and
            ``start_seconds``, which the start of the task's process has taken.
        :param offset: number of log lines that the task's log has; None if nobody has told.
        :param has_ended: whether a trigger has waited for it already.
        """
        from airflow_ray.client.errors import exception_for

        while True:
            if self.deferrable and not has_ended:
                news = self._news_of_short_work(uri, resume, offset)
            else:
                news = self.client.follow(uri, self.poll_interval, offset)
            progress = show_progress(self.log, news, self.fetch_logs)
            record = progress.record or {"state": progress.state, "error": None}
            if not (record["error"] or {}).get("lost") or resume["submissions"] >= SUBMISSIONS:
                break
            self.log.warning("An input was lost while the task waited or ran: %s", record["error"].get("message"))
            self._submit(uri, context)
            resume = {**resume, "submissions": resume["submissions"] + 1}
            offset, has_ended = None, False
        if progress.record is not None:
            self._ended = uri, record
            tell_end(uri, record)
        if progress.state != State.SUCCEEDED:
            self._show_used(record)
            raise exception_for(uri, record)
        if self.checkpoint:
            from airflow_ray.client.checkpoints import XCOM_KEY, told

            context["ti"].xcom_push(XCOM_KEY, told(self._checkpoint_location(), uri))
        if described := object_xcom.told_of(record["outputs"]):
            context["ti"].xcom_push(object_xcom.XCOM_KEY, described)
        show_spilling(self.log, record["spilled_bytes"])
        tell_assets(context, self.outlets, uri, record["outputs"])
        returned = self._returned(uri, progress)
        self._show_used(record)
        return returned

    def _show_used(self, record: dict[str, Any]) -> None:
        if self._tells_what_is_used:
            show_used(self.log, record)

    def _news_of_short_work(self, uri: ObjectURI, resume: dict[str, Any], offset: int | None) -> Iterator[Progress]:
        """Yield news of the work until it has ended, or hand the waiting to the triggerer where that lasts."""
        deadline = time.monotonic() + SHORT_SECONDS
        has_ended = False
        with closing(self.client.follow(uri, min(self.poll_interval, SHORT_POLL_SECONDS), offset)) as news:
            # Of work that has ended only lines are still to come.
            while has_ended or time.monotonic() < deadline:
                progress = next(news, None)
                if progress is None:
                    return
                offset, has_ended = progress.offset, State(progress.state).is_final
                yield progress
        self._defer(uri, {**resume, "offset": offset})

    def _defer(self, uri: ObjectURI, resume: dict[str, Any]) -> None:
        from airflow_ray.triggers import RayObjectTrigger

        credentials = None
        if self.client.targets.expire(uri):
            credentials = {
                "checkpoint": self._checkpoint_location().as_xcom() if self.checkpoint else None,
                "storage": self._storage_location(),
                "required": self.checkpoint is True,
            }
        trigger = RayObjectTrigger(
            [str(uri)],
            holder=self._holder,
            poll_interval=self.poll_interval,
            deadline=resume["deadline"],
            fetch_logs=self.fetch_logs,
            cancel_on_kill=self.cancel_on_kill,
            credentials=credentials,
            resume={**resume, "settle_seconds": seconds_to_settle(resume.get("start_seconds", 0.0))},
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _checkpoint_location(self) -> CheckpointLocation:
        from airflow_ray.client.checkpoints import require_location

        path, source = map(value_or_none, (self.checkpoint_path, self.checkpoint_source))
        return require_location(self.client.settings, path, source)

    def _storage_location(self) -> dict[str, str | None] | None:
        """Return path and AWS connection of where the work itself writes, if it does."""
        return None

    def _require_not_killed(self) -> None:
        """Let no work begin: Airflow lets a task go on for some seconds when it has called on_kill."""
        if self._is_killed:
            raise RayTaskCancelledError("The task was killed before it had submitted its work, which does not begin")

    def _submit(self, uri: ObjectURI, context: Context) -> Submission:
        from airflow_ray.client.submission.memory_steps import memory_for
        from airflow_ray.client.submission.modules import own_folder

        # A kill that comes later finds what to cancel.
        self._require_not_killed()
        call = self._remote_call(context)
        this_try = task_try(self, context, self._holder)
        memory = self.memory
        if isinstance(memory, (list, tuple)):
            earlier = self.client.describe(uri)
            memory = memory_for(memory, earlier, this_try)
        options = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "memory": memory,
            "resources": self.ray_resources,
            "runtime_env": self.runtime_env,
            "ray_options": self.ray_options,
            "max_retries": self.max_retries,
            "scheduling_timeout": self.scheduling_timeout,
            "fresh_process": self.fresh_process,
            "checkpoint": self.checkpoint,
            "checkpoint_source": self.checkpoint_source,
            "checkpoint_path": self.checkpoint_path,
        }
        return self.client.submit(
            call.function,
            *call.args,
            uri=uri,
            kwargs=call.kwargs,
            code_folders=[*bundle_folders(context), *(own_folder(call.code) if call.code else ())],
            holder=self._holder,
            generation=generation(context),
            task_try=this_try,
            **{**options, **call.options},
        )
