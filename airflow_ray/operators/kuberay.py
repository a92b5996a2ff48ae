"""The operators that make a Ray cluster on Kubernetes for a DAG run, and take it away again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.retrying import is_passing, tries
from airflow_ray.client.connection.threads import await_result, start_in_thread
from airflow_ray.client.deferral import seconds_of_start
from airflow_ray.client.failure_details import why_not_done
from airflow_ray.client.kuberay.manifest import is_file_name
from airflow_ray.client.kuberay.telling import NOT_DELETED
from airflow_ray.client.run_cluster import RUN
from airflow_ray.exceptions import (
    RayClusterGoneError,
    RayClusterManifestError,
    RayConfigurationError,
    RayConnectionError,
    RayTaskCancelledError,
)
from airflow_ray.operators.kuberay_arguments import RayClusterOperator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.sdk import Context
    from jinja2 import Environment

    from airflow_ray.client.client import RayClient
    from airflow_ray.client.kuberay.completion import Access
    from airflow_ray.client.kuberay.origin import Made, Origin
    from airflow_ray.client.kuberay.waiting import ClusterWait

# A task that is killed has 5 seconds before SIGKILL.
KILL_SECONDS = 4.0
# Nobody is left to delete what a task has made that fails, until its run has ended.
FAILURE_SECONDS = 60.0
# In which a head that is ready comes to be known to name servers and routes.
REACH_SECONDS = 120.0
_READY = "The head of the Ray cluster %s is ready; %s"
_NOT_OF_RUN = (
    "The connection %s leads to one cluster for all runs, at %s, and the cluster %s is that of this run alone. Write "
    "{run} into the host of the connection, lest the tasks run elsewhere"
)


class CreateRayClusterOperator(RayClusterOperator):
    """Makes a Ray cluster on Kubernetes, and waits until it can run work; its return value is the cluster's name.

    It can be repeated: a cluster that it finds is brought to what the manifest says. One that another Airflow
    installation has made, or a person, is not touched. Made to be a setup, with :class:`DeleteRayClusterOperator` as
    its teardown. Where it fails or is killed, it deletes what it has made.

    What the head needs so that Airflow reaches it is added where the manifest lacks it: ports, ``dashboard-host``, and
    the token of the connection in a Secret. The log says what.

    :param manifest: a RayCluster as a dict, as YAML text, or the name of a file with that, which ends with ``.yaml``,
        ``.yml`` or ``.json`` and is relative to the folder of the DAG's file (templated, and so is what is in the
        file). The name in it is replaced.
    :param labels: further labels of the cluster, such as ``kueue.x-k8s.io/queue-name`` (templated).
    :param kwargs: arguments of :class:`~airflow_ray.operators.kuberay_arguments.RayClusterOperator`: connections, name
        and namespace of the cluster, waiting.
    :raises RayClusterManifestError: it is not a manifest, or Kubernetes or KubeRay refuses it.
    :raises RayClusterError: the cluster cannot run work; the subclass and the text say why.

    >>> cluster = CreateRayClusterOperator(task_id="cluster", manifest="ray_cluster.yaml").as_setup()
    """

    template_fields: Sequence[str] = ("manifest", "labels", *RayClusterOperator.template_fields)
    template_fields_renderers = {"manifest": "yaml", "labels": "json"}

    # What has to go when this task fails.
    _made: Made | None = None
    _is_killed = False

    def __init__(
        self, *, manifest: Mapping[str, Any] | str, labels: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.labels = labels

    def execute(self, context: Context) -> str:
        """Make the cluster and wait for it."""
        from airflow_ray.client.kuberay.completion import sets_token
        from airflow_ray.client.kuberay.origin import HOLDER_ANNOTATION, Made, Origin, uid_of
        from airflow_ray.client.kuberay.state import is_head_running

        start_seconds, deadline = seconds_of_start(context), self._deadline()
        ti, name = context["ti"], self._name_for(context)
        origin = Origin.of(self.name, ti.dag_id, ti.run_id, ti.task_id)
        access, clusters = self._access(context), self._open()
        manifest = self._completed(name, origin, access)
        self._await_end_of_earlier(name, deadline)
        cluster, is_new = clusters.apply(manifest)
        uid, holder = uid_of(cluster), str(ti.id)
        made = Made(name, uid, holder, is_shared=origin.run_id is None)
        self._made = made if is_new else None
        self.log.info("%s the Ray cluster %s, namespace %s", "Made" if is_new else "Found", name, clusters.namespace)
        try:
            # An earlier try that is still about leaves it from here on.
            clusters.annotate(cluster, HOLDER_ANNOTATION, holder)
            # One that was there is of an earlier try; it may be in use where several runs share it, or its head runs.
            if not (is_new or made.is_shared) and not is_head_running(cluster, clusters.find_pods(name, uid)):
                self._made = made
            # It went on while the cluster was being made, and found nothing to delete.
            if self._is_killed:
                raise RayTaskCancelledError(f"The task was killed while it made the Ray cluster {name}")
            if access is not None and access.token is not None and sets_token(manifest):
                clusters.apply_token(cluster, access.token)
            if not self.deferrable:
                return self._reached(context, uid, self._wait(name, uid, "ready", deadline), deadline)
        except BaseException:
            self._remove(FAILURE_SECONDS)
            raise
        made_here = self._made.resume() if self._made is not None else {"made": None}
        resume = {"deadline": deadline, "start_seconds": start_seconds, **made_here}
        self._defer(name, uid, "ready", resume, "cluster_ready", delete_on_kill=self._made is not None)

    def cluster_ready(self, context: Context, event: dict[str, Any]) -> str:
        """Go on when :class:`~airflow_ray.kuberay_triggers.RayClusterTrigger` has waited for the cluster.

        :param event: what the trigger tells.
        """
        self._open()
        from airflow_ray.client.kuberay.origin import Made

        self._made = Made.of_resume(event["resume"])
        try:
            text = self._require_ended(event)
            return self._reached(context, event["uid"], text, event["resume"]["deadline"])
        except BaseException:
            self._remove(FAILURE_SECONDS)
            raise

    def on_kill(self) -> None:
        """Delete the cluster that is not ready yet."""
        self._is_killed = True
        self._remove(KILL_SECONDS)

    def _access(self, context: Context) -> Access | None:
        """Return how the connection reaches the cluster, before anything is made."""
        from airflow_ray.client.kuberay.completion import access_of

        return None if self.ray_conn_id is None else access_of(self._client(self.ray_conn_id, context).settings)

    def _completed(self, name: str, origin: Origin, access: Access | None) -> dict[str, Any]:
        """Return the manifest with all that it needs."""
        from airflow_ray.client.kuberay.completion import completed, named
        from airflow_ray.client.kuberay.manifest import read_manifest

        manifest, namespace = read_manifest(self.manifest), self._clusters.namespace
        given = manifest["metadata"]
        if given.get("name") not in (None, name):
            self.log.info("The cluster is called %s, and not %s, as the manifest says", name, given["name"])
        if given.get("namespace") not in (None, namespace):
            raise RayClusterManifestError(
                f"The manifest names the namespace {given['namespace']!r}, and the cluster is to be made in "
                f"{namespace!r}. Give that one as the namespace of the operators that make and delete it, or in the "
                f"connection {self.kubernetes_conn_id!r}, or take it out of the manifest"
            )
        labels = {str(key): str(text) for key, text in (self.labels or {}).items()}
        named(manifest, name, namespace, {**labels, **origin.labels}, origin.annotations)
        for added in completed(manifest, access) if access is not None else ():
            self.log.info("Added to the manifest, which lacks it: %s", added)
        return manifest

    def _await_end_of_earlier(self, name: str, deadline: float) -> None:
        """Wait for the end of a cluster of the same name that is being deleted."""
        from airflow_ray.client.kuberay.origin import require_own, uid_of

        earlier = self._clusters.find(name)
        if earlier is not None and earlier["metadata"].get("deletionTimestamp"):
            require_own(earlier)
            self._wait(name, uid_of(earlier), "gone", deadline)

    def _reached(self, context: Context, uid: str, text: str, deadline: float) -> str:
        """Return the name of the cluster when the connection leads to it."""
        name = self._name_for(context)
        self.log.info(_READY, name, text)
        if self.ray_conn_id is not None:
            self.log.info("Connecting to the Ray cluster %s by the connection %s", name, self.ray_conn_id)
            client = self._client(self.ray_conn_id, context)
            if RUN in self.name and client.settings.cluster.is_shared:
                self.log.warning(_NOT_OF_RUN, self.ray_conn_id, client.settings.host, name)
            wait = self._waiting(name, uid, "ready", deadline)
            try:
                while not self._reaches(client, wait, deadline):
                    self.log.info(_READY, name, self._finish(wait, name))
            except RayClusterGoneError as error:
                raise RayConnectionError(
                    f"The Ray cluster {name} can run work, and the connection {self.ray_conn_id!r} does not lead to "
                    f"its head: is its host made of this name, namespace {self._clusters.namespace}? {error}"
                ) from error
        self._made = None
        self.log.info("The Ray cluster %s can run work", name)
        return name

    def _reaches(self, client: RayClient, wait: ClusterWait, deadline: float) -> bool:
        """Connect, and return whether that is done: not where the head is ready no more."""
        for attempt in tries(min(REACH_SECONDS, max(1.0, deadline - time.time())), _may_pass):
            # Ray ends a head that answers already when its processes have not found each other within half a minute.
            if attempt.retry_state.attempt_number > 1 and wait.is_lost():
                return False
            with attempt, client.connect():
                pass
        return True

    def _remove(self, seconds: float) -> None:
        """Delete what this task has made within some seconds, and say so in the log if that could not be done."""
        made, self._made = self._made, None
        if made is None:
            return
        self.log.info("Deleting the Ray cluster %s", made.name)
        # Kubernetes that does not answer must not hold up the end of the task.
        deleted = start_in_thread(lambda: self._clusters.withdraw(made, seconds))
        try:
            await_result(deleted, seconds)
        except Exception as error:
            self.log.warning(NOT_DELETED, made.name, why_not_done(error, seconds))
            # Airflow may call once more.
            self._made = made

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Environment, seen_oids: set[int]
    ) -> None:
        dag = self.get_dag()
        if parent is self and isinstance(self.manifest, str) and is_file_name(self.manifest):
            path = Path(dag.folder if dag is not None else ".", self.manifest.strip())
            try:
                self.manifest = path.read_text()
            except OSError as error:
                raise RayClusterManifestError(f"The manifest {path} cannot be read: {error.strerror}") from error
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)


class DeleteRayClusterOperator(RayClusterOperator):
    """Deletes a Ray cluster on Kubernetes with what it holds, and waits until it is gone.

    Made to be the teardown of :class:`CreateRayClusterOperator`:
    ``DeleteRayClusterOperator(task_id="delete").as_teardown(setups=cluster)`` also deletes it when a task in between
    has failed. It succeeds where the cluster is gone already. One that this Airflow installation has not made stays.

    :param checkpoint: write the checkpoint of each object that has none, where the connection says, before the cluster
        goes; it stays where one could not be written. False warns of such objects.
    :param kwargs: arguments of :class:`~airflow_ray.operators.kuberay_arguments.RayClusterOperator`: connections, name
        and namespace of the cluster, waiting.
    :raises RayClusterForeignError: somebody else has made the cluster.
    :raises RayClusterError: the cluster cannot be deleted; the subclass and the text say why.

    >>> delete = DeleteRayClusterOperator(task_id="delete")
    """

    def __init__(self, *, checkpoint: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if checkpoint and self.ray_conn_id is None:
            raise RayConfigurationError("checkpoint=True needs a connection to the Ray cluster: set ray_conn_id")
        self.checkpoint = checkpoint

    def execute(self, context: Context) -> None:
        """Delete the cluster and wait for its end."""
        from airflow_ray.client.kuberay.last_objects import keep_objects
        from airflow_ray.client.kuberay.origin import require_own, uid_of

        start_seconds = seconds_of_start(context)
        name, clusters = self._name_for(context), self._open()
        cluster = clusters.find(name)
        if cluster is None:
            self.log.info("The Ray cluster %s in the namespace %s is gone already", name, clusters.namespace)
            return
        require_own(cluster)
        if not cluster["metadata"].get("deletionTimestamp"):
            if self.ray_conn_id is not None:
                keep_objects(clusters, cluster, self._client(self.ray_conn_id, context), writes=self.checkpoint)
            clusters.delete(cluster)
            self.log.info("Deleting the Ray cluster %s in the namespace %s", name, clusters.namespace)
        deadline = self._deadline()
        if self.deferrable:
            resume = {"deadline": deadline, "start_seconds": start_seconds}
            self._defer(name, uid_of(cluster), "gone", resume, "cluster_gone", delete_on_kill=False)
        self._wait(name, uid_of(cluster), "gone", deadline)
        self.log.info("The Ray cluster %s is gone", name)

    def cluster_gone(self, context: Context, event: dict[str, Any]) -> None:
        """Go on when :class:`~airflow_ray.kuberay_triggers.RayClusterTrigger` has waited for the end of the cluster.

        :param event: what the trigger tells.
        """
        self._require_ended(event)
        self.log.info("The Ray cluster %s is gone", self._name_for(context))


def _may_pass(error: BaseException) -> bool:
    # The name servers may have been asked for the head before it was there.
    return is_passing(error) or isinstance(error, RayClusterGoneError)
