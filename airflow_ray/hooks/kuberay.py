"""The hook for Ray clusters on Kubernetes, which KubeRay runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.forks import cached_property

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_ray.client.kuberay.clusters import Clusters
    from airflow_ray.client.kuberay.pruning import Pruned


class KubeRayHook(BaseHook):
    """Makes, shows and deletes the Ray clusters that this Airflow installation has in a namespace of Kubernetes.

    It needs the extra ``kuberay`` of this package. A cluster of another Airflow installation, or that somebody has made
    by hand, is neither changed nor deleted.

    :param kubernetes_conn_id: Airflow connection of type ``kubernetes``: a kubeconfig, or the cluster in which this
        process runs.
    :param namespace: None takes that of the connection, or else ``default``.

    >>> hook = KubeRayHook("kubernetes_default", namespace="ray")
    >>> hook.list()  # doctest: +SKIP
    """

    conn_name_attr = "kubernetes_conn_id"

    def __init__(self, kubernetes_conn_id: str = "kubernetes_default", namespace: str | None = None) -> None:
        super().__init__()
        self.kubernetes_conn_id = kubernetes_conn_id
        self._namespace = namespace

    @cached_property
    def clusters(self) -> Clusters:
        """What Kubernetes is asked by.

        :raises RayConfigurationError: the extra ``kuberay`` is missing, or the connection does not lead anywhere.
        """
        from airflow_ray.client.kuberay.clusters import Clusters

        return Clusters.of(self.kubernetes_conn_id, self._namespace)

    def list(self) -> list[dict[str, Any]]:
        """Return the clusters that this Airflow installation has made, as Kubernetes has them, the oldest first.

        :raises RayClusterError: Kubernetes does not tell; the subclass and the text say why.
        """
        return self.clusters.own()

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a cluster as Kubernetes has it, whoever has made it, or None.

        :raises RayClusterError: Kubernetes does not tell; the subclass and the text say why.
        """
        return self.clusters.find(name)

    def apply(self, manifest: Mapping[str, Any] | str, *, dag_id: str, run_id: str | None, task_id: str) -> str:
        """Make a cluster, or bring one that is there to what the manifest says, without waiting; return its uid.

        Nothing is added to the manifest but whose the cluster is.

        :param manifest: a RayCluster with a name, as a mapping or as YAML text.
        :param dag_id: for whose DAG it is. So are ``run_id``, None for several runs, and ``task_id``.
        :raises RayClusterForeignError: a cluster of that name is there, which somebody else has made.
        :raises RayClusterManifestError: it is not a manifest, or Kubernetes refuses it.
        :raises RayClusterError: Kubernetes refuses; the subclass and the text say why.
        """
        from airflow_ray.client.kuberay.completion import named
        from airflow_ray.client.kuberay.manifest import read_manifest, require_name
        from airflow_ray.client.kuberay.origin import Origin, uid_of

        read, origin = read_manifest(manifest), Origin(dag_id, run_id, task_id)
        name = require_name(str(read["metadata"].get("name", "")))
        named(read, name, self.clusters.namespace, origin.labels, origin.annotations)
        cluster, _ = self.clusters.apply(read)
        return uid_of(cluster)

    def wait(self, name: str, timeout: float = 1800.0, poll_interval: float = 5.0) -> str:
        """Wait until the head of a cluster is ready, and return how many workers are.

        :param timeout: seconds to wait.
        :param poll_interval: seconds between two looks.
        :raises RayClusterError: it does not get ready; the subclass and the text say why.
        """
        from airflow_ray.client.kuberay.origin import uid_of
        from airflow_ray.client.kuberay.waiting import ClusterWait
        from airflow_ray.exceptions import RayClusterDeletedError

        cluster = self.get(name)
        if cluster is None:
            raise RayClusterDeletedError(f"There is no Ray cluster {name} in the namespace {self.clusters.namespace}")
        wait = ClusterWait(self.clusters, name, uid_of(cluster), "ready", time.time() + timeout)
        return asyncio.run(wait.run(poll_interval, self.log.info))

    def delete(self, name: str) -> bool:
        """Delete a cluster, without waiting for its end, and return whether it was there.

        :raises RayClusterForeignError: somebody else has made it.
        :raises RayClusterError: Kubernetes refuses; the subclass and the text say why.
        """
        cluster = self.get(name)
        return cluster is not None and self.clusters.delete(cluster)

    def prune(self, older_than: timedelta | None = None) -> Sequence[Pruned]:
        """Delete the clusters whose DAG run has ended, or is not there any more, and those that are too old.

        A cluster that several runs share is deleted by its age alone.

        :param older_than: the age from which a cluster is deleted whatever its run does; None has no such age.
        :returns: which were deleted, and why.
        :raises RayClusterError: Kubernetes refuses; the subclass and the text say why.
        """
        from airflow_ray.client.kuberay.pruning import prune

        return prune(self.clusters, older_than)
