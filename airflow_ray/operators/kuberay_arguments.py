"""What the operators have in common that make and delete Ray clusters on Kubernetes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_ray._compat import BaseOperator, conf
from airflow_ray.client.deferral import seconds_to_settle
from airflow_ray.client.kuberay.telling import WAITING
from airflow_ray.client.run_cluster import RUN, rendered
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.operators.text_templates import keep_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context
    from jinja2 import Environment

    from airflow_ray.client.client import RayClient
    from airflow_ray.client.kuberay.clusters import Clusters
    from airflow_ray.client.kuberay.waiting import ClusterWait, Goal

_TEXT_FIELDS = frozenset({"name", "namespace", "ray_conn_id", "kubernetes_conn_id"})


class RayClusterOperator(BaseOperator):
    """Takes what a user says of a Ray cluster on Kubernetes, and waits for it.

    :param name: of the cluster (templated). ``{run}``, the default, stands for a name made from DAG and run, ``{dag}``
        for one made from the DAG, as in the host of a connection. A cluster whose name has no ``{run}`` is one that
        several runs share.
    :param namespace: of the cluster (templated). None takes that of the connection, or else ``default``.
    :param ray_conn_id: Airflow connection of type ``ray`` by which the tasks reach the cluster (templated). None makes
        the cluster as the manifest says, and does not connect to it.
    :param kubernetes_conn_id: Airflow connection of type ``kubernetes``: a kubeconfig, or the cluster in which Airflow
        runs (templated).
    :param timeout: seconds until the cluster must be as it is waited for.
    :param poll_interval: seconds between two looks at it.
    :param deferrable: wait in Airflow's triggerer, without a slot of a worker.
    :raises RayConfigurationError: an argument is wrong.
    """

    template_fields: Sequence[str] = ("name", "namespace", "ray_conn_id", "kubernetes_conn_id")
    ui_color = "#d6eaf8"

    def __init__(
        self,
        *,
        name: str = RUN,
        namespace: str | None = None,
        ray_conn_id: str | None = "ray_default",
        kubernetes_conn_id: str = "kubernetes_default",
        timeout: float = 1800.0,
        poll_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, seconds in (("timeout", timeout), ("poll_interval", poll_interval)):
            if not seconds > 0:
                raise RayConfigurationError(f"{argument} must be a number of seconds over 0, got {seconds!r}")
        self.name = name
        self.namespace = namespace
        self.ray_conn_id = ray_conn_id
        self.kubernetes_conn_id = kubernetes_conn_id
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.deferrable = deferrable

    def _deadline(self) -> float:
        """Return until when the cluster must be as it is waited for, in seconds since 1970."""
        seconds = self.timeout
        if self.execution_timeout is not None:
            # Airflow itself sees to it only while the task is not deferred.
            seconds = min(seconds, self.execution_timeout.total_seconds())
        return time.time() + seconds

    def _name_for(self, context: Context) -> str:
        from airflow_ray.client.kuberay.manifest import require_name

        ti = context["ti"]
        return require_name(rendered(self.name, ti.dag_id, ti.run_id))

    def _client(self, ray_conn_id: str, context: Context) -> RayClient:
        """Return what the cluster is asked by."""
        from airflow_ray.client.client import RayClient

        ti = context["ti"]
        return RayClient(ray_conn_id, ti.dag_id, ti.run_id)

    def _open(self) -> Clusters:
        """Return the clusters of the namespace, which are kept for what comes later."""
        from airflow_ray.client.kuberay.clusters import Clusters

        self._clusters = Clusters.of(self.kubernetes_conn_id, self.namespace, self.timeout)
        return self._clusters

    def _wait(self, name: str, uid: str, goal: Goal, deadline: float) -> str:
        """Wait until the cluster is as it shall be, and return what it has then."""
        return self._finish(self._waiting(name, uid, goal, deadline), name)

    def _waiting(self, name: str, uid: str, goal: Goal, deadline: float) -> ClusterWait:
        from airflow_ray.client.kuberay.waiting import ClusterWait

        return ClusterWait(self._clusters, name, uid, goal, deadline)

    def _finish(self, wait: ClusterWait, name: str) -> str:
        return asyncio.run(wait.run(self.poll_interval, lambda text: self.log.info(WAITING, name, text)))

    def _defer(
        self, name: str, uid: str, goal: Goal, resume: dict[str, Any], method_name: str, delete_on_kill: bool
    ) -> NoReturn:
        from airflow_ray.kuberay_triggers import RayClusterTrigger

        settle_seconds = seconds_to_settle(resume["start_seconds"])
        trigger = RayClusterTrigger(
            kubernetes_conn_id=self.kubernetes_conn_id,
            namespace=self._clusters.namespace,
            name=name,
            uid=uid,
            goal=goal,
            deadline=resume["deadline"],
            poll_interval=self.poll_interval,
            delete_on_kill=delete_on_kill,
            resume={**resume, "settle_seconds": settle_seconds},
        )
        self.defer(trigger=trigger, method_name=method_name)

    def _require_ended(self, event: dict[str, Any]) -> str:
        """Return what the cluster has, as an event tells, or raise what that tells else."""
        from airflow_ray import triggers

        if event["status"] == triggers.ERROR:
            raise triggers.error_of(event)
        return str(event["text"])

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Environment, seen_oids: set[int]
    ) -> None:
        if parent is self:
            keep_texts(self, _TEXT_FIELDS, template_fields, seen_oids)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
