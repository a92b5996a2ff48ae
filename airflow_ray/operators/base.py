"""What all operators have in common that run something on a Ray cluster."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from collections import Counter
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_ray._compat import AirflowTaskTimeout, BaseOperator, bundle_folders, conf
from airflow_ray.client.connection.secrets import mask_runtime_env
from airflow_ray.client.connection.threads import await_result, start_in_thread
from airflow_ray.client.errors import NOT_CANCELLED
from airflow_ray.client.submission.options import check_checkpoint
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.dashboard_link import RayDashboardLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.sdk import Context

    from airflow_ray.client.checkpoints.location import CheckpointLocation
    from airflow_ray.client.client import Progress, RayClient

# A task that is killed has 5 seconds before SIGKILL.
KILL_SECONDS = 4.0
SUBMISSIONS = 3


class RemoteCall(NamedTuple):
    """What runs on the cluster.

    :param function: the callable.
    :param args: its arguments.
    :param kwargs: its keyword arguments.
    :param options: of the hook's ``submit``, besides those that all operators have.
    :param code: what else the cluster needs the modules of.
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    code: Callable[..., Any] | None = None


class RayOperator(BaseOperator):
    """Submits a callable to a Ray cluster under the object URI of its task, and waits for it.

    The common base of the operators; what each runs is in :meth:`_remote_call`.

    :param ray_conn_id: Airflow connection of type ``ray`` (templated).
    :param num_cpus: CPUs to reserve (templated).
    :param num_gpus: GPUs to reserve, a fraction too (templated).
    :param memory: memory to reserve, in bytes (templated).
    :param resources: custom Ray resources to reserve, by name (templated, as ``ray_resources``).
    :param runtime_env: Ray runtime environment, over that of the connection (templated).
    :param ray_options: further arguments for Ray's ``RemoteFunction.options``.
    :param max_retries: how often Ray runs the callable again when its process dies, not when it raises.
    :param scheduling_timeout: seconds that the work may wait for resources. None, the default, waits as
        long as the cluster has a node that is large enough, and fails at once if it has none.
    :param checkpoint: also write a durable copy of what is returned, from which it is restored when the cluster
        has lost it. The task succeeds only when the copy is complete; with ``best-effort`` also without it.
    :param checkpoint_source: AWS connection with the credentials for it (templated). None takes that of the Ray
        connection, or else the credentials of the cluster's own machines.
    :param checkpoint_path: where to write, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``
        (templated). None takes what is set in the Ray connection, the AWS connection or Airflow's configuration.
    :param deferrable: wait in Airflow's triggerer, without a slot of a worker.
    :param poll_interval: seconds between two calls to the cluster while there is no news; the end comes at once, and
        so do log lines unless deferred.
    :param fetch_logs: show what the callable prints and logs in the task's log.
    :raises RayConfigurationError: an argument is wrong.
    """

    template_fields: Sequence[str] = (
        "ray_conn_id",
        "num_cpus",
        "num_gpus",
        "memory",
        "ray_resources",
        "runtime_env",
        "checkpoint_source",
        "checkpoint_path",
    )
    template_fields_renderers = {"ray_resources": "json", "runtime_env": "json"}
    operator_extra_links = (RayDashboardLink(),)
    ui_color = "#d6eaf8"
    #: RayXComBackend leaves object URIs as they are for operators that have this.
    takes_object_uris = True

    def __init__(
        self,
        *,
        ray_conn_id: str = "ray_default",
        num_cpus: float | str = 1,
        num_gpus: float | str = 0,
        memory: float | str | None = None,
        resources: dict[str, float | str] | str | None = None,
        runtime_env: dict[str, Any] | str | None = None,
        ray_options: dict[str, Any] | None = None,
        max_retries: int = 3,
        scheduling_timeout: float | None = None,
        checkpoint: bool | Literal["best-effort"] = False,
        checkpoint_source: str | None = None,
        checkpoint_path: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        fetch_logs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if poll_interval <= 0:
            raise RayConfigurationError(f"poll_interval must be a number of seconds over 0, got {poll_interval!r}")
        check_checkpoint(checkpoint)
        self.ray_conn_id = ray_conn_id
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory = memory
        # BaseOperator has an attribute ``resources`` of another meaning, which Airflow does not template.
        self.ray_resources = resources
        self.runtime_env = runtime_env
        self.ray_options = ray_options
        self.max_retries = max_retries
        self.scheduling_timeout = scheduling_timeout
        self.checkpoint: bool | Literal["best-effort"] = checkpoint
        self.checkpoint_source = checkpoint_source
        self.checkpoint_path = checkpoint_path
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.fetch_logs = fetch_logs
        self._uri: ObjectURI | None = None
        # An earlier try of which Airflow has lost sight may end late, and must not cancel what a new one goes on with.
        self._holder = ""

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

        return RayClient(self.ray_conn_id)

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(*args, **kwargs)
        # Airflow stores what was rendered before it executes anything.
        mask_runtime_env(self.runtime_env)

    def execute(self, context: Context) -> Any:
        """Run the callable on the cluster, wait for it and return what the task returns."""
        deadline = None
        if self.execution_timeout is not None:
            deadline = time.time() + self.execution_timeout.total_seconds()
        uri = self._uri_of(context)
        self._holder = uuid.uuid4().hex
        with self._connected(uri):
            self._submit(uri, context)
            self._push_link(uri, context)
            return self._completed(uri, context, {"submissions": 1, "deadline": deadline, "holder": self._holder})

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when :class:`~airflow_ray.triggers.RayObjectTrigger` has waited for the work.

        :param event: what the trigger tells.
        """
        from airflow_ray import triggers

        uri = self._uri_of(context)
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
        uri, self._uri = self._uri, None
        if uri is None:
            return
        self.log.info("Cancelling %s", uri)
        # A cluster that does not answer must not hold up the end of the task.
        cancel = start_in_thread(lambda: self.client.link.call_from_aside("cancel", uri.record_id, self._holder))
        try:
            await_result(cancel, KILL_SECONDS)
        except Exception as error:
            reason = f"no answer within {KILL_SECONDS:g} seconds" if isinstance(error, TimeoutError) else str(error)
            self.log.warning(NOT_CANCELLED, uri, reason, uri)
            # Airflow may call once more, when the connection of the task is closed.
            self._uri = uri

    def _uri_of(self, context: Context) -> ObjectURI:
        ti = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        return ObjectURI(self.ray_conn_id, ti.dag_id, ti.run_id, ti.task_id, map_index)

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

        :param resume: number of ``submissions``, the ``deadline`` in seconds since 1970 or None, and the ``holder``.
        :param offset: number of log lines that the task's log has; None if nobody has told.
        :param has_ended: whether a trigger has waited for it already.
        """
        from airflow_ray.client.errors import exception_for

        while True:
            if self.deferrable and not has_ended:
                self._defer(uri, resume)
            progress = self._followed(uri, offset)
            record = progress.record or {"state": progress.state, "error": None}
            if not (record["error"] or {}).get("lost") or resume["submissions"] >= SUBMISSIONS:
                break
            self.log.warning("An input was lost while the task waited or ran: %s", record["error"].get("message"))
            self._submit(uri, context)
            resume = {**resume, "submissions": resume["submissions"] + 1}
            offset, has_ended = None, False
        if progress.state != "SUCCEEDED":
            raise exception_for(uri, record)
        if self.checkpoint:
            from airflow_ray.client.checkpoints.location import XCOM_KEY

            context["ti"].xcom_push(XCOM_KEY, self._checkpoint_location().as_xcom())
        self._show_spilling(record)
        returned = self._returned(uri, progress)
        self.client.acknowledge(uri)
        return returned

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
            credentials=credentials,
            resume=resume,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _checkpoint_location(self) -> CheckpointLocation:
        from airflow_ray.client.checkpoints.location import require_location

        return require_location(self.client.settings, self.checkpoint_path, self.checkpoint_source)

    def _storage_location(self) -> dict[str, str | None] | None:
        """Return path and AWS connection of where the work itself writes, if it does."""
        return None

    def _push_link(self, uri: ObjectURI, context: Context) -> None:
        """Let the UI lead to the Ray dashboard while the work goes on."""
        context["ti"].xcom_push(RayDashboardLink().xcom_key, self.client.dashboard_page(uri) or "")

    def _submit(self, uri: ObjectURI, context: Context) -> None:
        from airflow_ray.client.submission.modules import own_folder

        call = self._remote_call(context)
        self.client.submit(
            call.function,
            *call.args,
            uri=uri,
            kwargs=call.kwargs,
            code_folders=[*bundle_folders(context), *(own_folder(call.code) if call.code else ())],
            # Airflow raises it when the task is cleared, and leaves it when it tries again.
            holder=self._holder,
            generation=str(context["ti"].max_tries),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            memory=self.memory,
            resources=self.ray_resources,
            runtime_env=self.runtime_env,
            ray_options=self.ray_options,
            max_retries=self.max_retries,
            scheduling_timeout=self.scheduling_timeout,
            checkpoint=self.checkpoint,
            checkpoint_source=self.checkpoint_source,
            checkpoint_path=self.checkpoint_path,
            **call.options,
        )

    def _followed(self, uri: ObjectURI, offset: int | None) -> Progress:
        """Show what the work writes and waits for, and return the last news of it."""
        detail = None
        for progress in self.client.follow(uri, self.poll_interval, offset):
            self._show_lines(progress)
            if progress.detail and progress.detail != detail:
                self.log.info("Waiting for resources: %s", progress.detail)
            detail = progress.detail
        return progress

    def _show_lines(self, progress: Progress) -> None:
        if not self.fetch_logs:
            return
        if progress.skipped:
            self.log.warning("%d lines of output were dropped before they could be read", progress.skipped)
        for line in progress.lines:
            self.log.info(line)

    def _show_spilling(self, record: dict[str, Any]) -> None:
        if record["spilled_bytes"]:
            self.log.warning(
                "The object store of the Ray cluster was full: %s bytes were spilled to disk while this task ran, from "
                "where they are read again more slowly. Release what is no longer needed, for example with "
                "RayReleaseOperator or object_ttl in the connection, or give the nodes a larger store.",
                f"{record['spilled_bytes']:,}",
            )

    def _show_sources(self, inputs: list[dict[str, str]]) -> None:
        counts = Counter(each["source"] for each in inputs)
        if counts:
            self.log.info("Inputs: %s", ", ".join(f"{count} from the {source}" for source, count in counts.items()))

    def _show_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        if checkpoint is None:
            return
        if error := checkpoint.get("error"):
            self.log.warning("No checkpoint was written at %s: %s", error["where"], error["message"])
            return
        note = f", {checkpoint['note']}" if checkpoint["note"] else ""
        self.log.info(
            "Checkpoint: %s, %s bytes in %d files in %.1f s%s: %s",
            checkpoint["format"],
            f"{checkpoint['bytes']:,}",
            checkpoint["files"],
            checkpoint["seconds"],
            note,
            checkpoint["path"],
        )
