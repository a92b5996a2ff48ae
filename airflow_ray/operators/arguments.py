"""The arguments that all operators have which run something on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_ray._compat import BaseOperator, conf
from airflow_ray.client.connection.secrets import mask_runtime_env
from airflow_ray.client.submission.result_policy import check_checkpoint
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.operators.dashboard_link import RayDashboardLink
from airflow_ray.operators.text_templates import keep_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context
    from jinja2 import Environment

# A number, a list or None that native rendering would make of a text in them, Ray and Airflow would refuse.
_TEXT_FIELDS = frozenset(
    {
        "checkpoint_path",
        "checkpoint_source",
        "entrypoint",
        "metadata",
        "ray_conn_id",
        "report_path",
        "runtime_env",
        "storage_conn_id",
        "storage_path",
    }
)


class RayArguments(BaseOperator):
    """Takes what a user says of a task on a Ray cluster: where it runs, with what, and how it is waited for.

    :param ray_conn_id: Airflow connection of type ``ray`` (templated).
    :param num_cpus: CPUs to reserve (templated).
    :param num_gpus: GPUs to reserve, a fraction too (templated).
    :param memory: memory to reserve, in bytes (templated). A list has an amount for each try that follows one which ran
        out of memory; each other retry reserves what the try before did.
    :param resources: custom Ray resources to reserve, by name (templated, as ``ray_resources``).
    :param runtime_env: Ray runtime environment, over that of the connection (templated).
    :param ray_options: further arguments for Ray's ``RemoteFunction.options``.
    :param max_retries: how often Ray runs the callable again when its process dies, not when it raises.
    :param scheduling_timeout: seconds that the work may wait for resources. None, the default, waits as
        long as the cluster has a node that is large enough, and fails at once if it has none.
    :param fresh_process: run in a process that no other work has used, nor will; it takes seconds to start.
    :param checkpoint: also write a durable copy of what is returned, from which it is restored when the cluster
        has lost it. The task succeeds only when the copy is complete; with ``best-effort`` also without it.
    :param checkpoint_source: AWS connection with the credentials for it (templated). None takes that of the Ray
        connection, or else the credentials of the cluster's own machines.
    :param checkpoint_path: where to write, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``
        (templated). None takes what is set in the Ray connection, the AWS connection or Airflow's configuration.
    :param durable: let a retry go on with the work of an earlier try, or take what that has made. False has each try
        begin anew.
    :param cancel_on_kill: end the work when the task is killed, marked or timed out. False lets it go on; when the task
        is cleared, its next try ends it.
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
        memory: float | str | Sequence[float | str] | None = None,
        resources: dict[str, float | str] | str | None = None,
        runtime_env: dict[str, Any] | str | None = None,
        ray_options: dict[str, Any] | None = None,
        max_retries: int = 3,
        scheduling_timeout: float | None = None,
        fresh_process: bool = False,
        checkpoint: bool | Literal["best-effort"] = False,
        checkpoint_source: str | None = None,
        checkpoint_path: str | None = None,
        durable: bool = True,
        cancel_on_kill: bool = True,
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
        self.fresh_process = fresh_process
        self.checkpoint: bool | Literal["best-effort"] = checkpoint
        self.checkpoint_source = checkpoint_source
        self.checkpoint_path = checkpoint_path
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.fetch_logs = fetch_logs

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Environment, seen_oids: set[int]
    ) -> None:
        if parent is self:
            keep_texts(self, _TEXT_FIELDS, template_fields, seen_oids)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        # Airflow stores what was rendered before it executes anything.
        mask_runtime_env(self.runtime_env)
