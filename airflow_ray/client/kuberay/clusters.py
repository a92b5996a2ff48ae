"""The Ray clusters in a namespace of Kubernetes: made, looked at, deleted."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from airflow_ray.client.connection.retrying import tries
from airflow_ray.client.kuberay.api import AWAY_SECONDS, KubernetesApi, is_away, open_api, rayclusters
from airflow_ray.client.kuberay.completion import TOKEN_KEY, secret_name
from airflow_ray.client.kuberay.manifest import API_VERSION, KIND
from airflow_ray.client.kuberay.origin import Made, name_of, own_clusters, require_own, uid_of
from airflow_ray.client.kuberay.pods import SLOW_STARTS, belongs_to, is_head
from airflow_ray.client.kuberay.refusals import ConflictError, NotThereError
from airflow_ray.client.kuberay.state import is_head_running
from airflow_ray.client.run_cluster import installation
from airflow_ray.exceptions import (
    AirflowRayError,
    KubeRayMissingError,
    RayClusterManifestError,
    RayClusterPermissionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.kuberay.pods import Crash

CLUSTER_LABEL = "ray.io/cluster"
KUEUE = "kueue.x-k8s.io/v1beta1"
# What is looked at of a log, and what is shown of that: Ray writes of each of its processes that have ended together.
LOOKED_AT_LINES, LAST_LINES = 400, 15
LONGEST_LINES = 4000
TOO_SLOW = (
    ". Ray gives the processes of a head half a minute to find each other. Either its node was too busy for that: let "
    "the manifest ask for more CPU for the head. Or one of them has ended, such as for lack of memory"
)

T = TypeVar("T")

log = logging.getLogger(__name__)


class Clusters:
    """The Ray clusters in one namespace.

    :param api: of Kubernetes.
    :param namespace: the namespace.
    :param patience: seconds in which an API server that is away must come back.
    """

    def __init__(self, api: KubernetesApi, namespace: str, patience: float = AWAY_SECONDS) -> None:
        self._api = api
        self.namespace = namespace
        self._patience = patience
        self._unreadable: set[str] = set()

    @classmethod
    def of(cls, kubernetes_conn_id: str, namespace: str | None = None, patience: float = AWAY_SECONDS) -> Clusters:
        """Return those that a connection leads to.

        :param namespace: None for that of the connection, or else ``default``.
        :raises RayConfigurationError: the package for it is missing, or the connection does not lead anywhere.
        """
        return cls(*open_api(kubernetes_conn_id, namespace), min(patience, AWAY_SECONDS))

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a cluster, or None if there is none of that name."""
        return self._patiently(lambda: self.look_up(name))

    def look_up(self, name: str) -> dict[str, Any] | None:
        """Return a cluster likewise, with one call to an API server that may be away."""
        return self._api.get(self._path(name))

    def own(self) -> list[dict[str, Any]]:
        """Return the clusters that this Airflow installation has made, the oldest first."""
        found = self._patiently(lambda: self._api.items(self._path(), labelSelector=own_clusters()))
        return sorted(found, key=lambda each: str(each["metadata"]["creationTimestamp"]))

    def apply(self, manifest: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Make a cluster, or bring one that this Airflow installation has made to what the manifest says.

        :param manifest: with name, namespace and labels.
        :returns: the cluster, and whether it was not there before.
        :raises RayClusterForeignError: one of its name is there, which somebody else has made.
        :raises RayClusterError: Kubernetes refuses; the subclass tells why.
        """
        name = name_of(manifest)
        before = self.find(name)
        if before is not None:
            require_own(before)
        try:
            return self._patiently(lambda: self._api.apply(self._path(name), manifest, _manager())), before is None
        except ConflictError as error:
            there = self.find(name)
            if there is None:
                raise
            require_own(there)
            log.warning("The cluster %s stays as others have changed it since: %s", name, error)
            return there, False

    def apply_token(self, cluster: dict[str, Any], token: str) -> None:
        """Write a token into the Secret of a cluster, with which it is deleted.

        :raises RayClusterError: Kubernetes refuses; the subclass tells why.
        """
        metadata = cluster["metadata"]
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
        name = secret_name(metadata["name"])
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace, "ownerReferences": [owner]},
            "type": "Opaque",
            "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
        }
        self._patiently(lambda: self._api.apply(f"{self._core('secrets')}/{name}", secret, _manager()))

    def delete(self, cluster: dict[str, Any]) -> bool:
        """Delete a cluster that this Airflow installation has made, and return whether it was there.

        :raises RayClusterForeignError: somebody else has made it.
        :raises RayClusterError: Kubernetes refuses; the subclass tells why.
        """
        require_own(cluster)
        return self._patiently(lambda: self._api.delete(self._path(name_of(cluster)), uid_of(cluster)))

    def annotate(self, cluster: dict[str, Any], name: str, text: str) -> None:
        """Write an annotation on a cluster, in place of an earlier one of this name; not on one that has gone since.

        :raises RayClusterError: Kubernetes refuses; the subclass tells why.
        """
        metadata = {"name": name_of(cluster), "uid": uid_of(cluster), "annotations": {name: text}}
        note = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
        # In a name of its own: what was applied in that of the manifest would go.
        manager = f"{_manager()}-{name.rpartition('/')[2]}"
        try:
            self._patiently(lambda: self._api.apply(self._path(name_of(cluster)), note, manager))
        # The one is said of a cluster that has gone, the other, of a uid that may not change, where another has come.
        except (ConflictError, RayClusterManifestError):
            there = self.find(name_of(cluster))
            if there is not None and uid_of(there) == uid_of(cluster):
                raise

    def withdraw(self, made: Made, patience: float) -> bool:
        """Delete a cluster since the task that has made it has failed, unless others use it; return whether it is done.

        :param patience: seconds in which an API server that is away must come back, or a cluster must stay as it is.
        :raises RayClusterError: Kubernetes refuses; the subclass tells why.
        """
        return tries(patience, _may_be_deleted_later)(lambda: self._withdraw(made))

    def _withdraw(self, made: Made) -> bool:
        cluster = self.look_up(made.name)
        if cluster is None or not made.is_held(cluster):
            log.info("The Ray cluster %s is gone, or another try of a task uses it", made.name)
            return False
        if made.is_shared and is_head_running(cluster, self.pods(made.name, made.uid)):
            log.warning("The Ray cluster %s stays, since other runs may use it", made.name)
            return False
        # One that somebody has found, or changed, since the look has another version.
        if not self._api.delete(self._path(made.name), made.uid, cluster["metadata"]["resourceVersion"]):
            raise ConflictError(f"The Ray cluster {made.name} has just changed, or something refuses its deletion")
        return True

    def find_pods(self, name: str, uid: str) -> list[dict[str, Any]] | None:
        """Return what :meth:`pods` does, as soon as an API server that is away has come back."""
        return self._patiently(lambda: self.pods(name, uid))

    def pods(self, name: str, uid: str) -> list[dict[str, Any]] | None:
        """Return the pods of a cluster, or None where they may not be read.

        :param uid: tells them from those of an earlier cluster of its name, which may not have ended yet.
        """
        pods = self._readable("pods", labelSelector=f"{CLUSTER_LABEL}={name}")
        return None if pods is None else [pod for pod in pods if belongs_to(pod, uid)]

    def events(self, name: str, pods: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        """Return what Kubernetes tells of a cluster and of the pod of its head, as far as that may be read."""
        heads = [pod["metadata"]["name"] for pod in pods or () if is_head(pod)]
        about = [f"involvedObject.name={each}" for each in (name, *heads)]
        return [event for field in about for event in self._readable("events", fieldSelector=field) or ()]

    def why_queued(self, cluster: dict[str, Any]) -> str | None:
        """Return what Kueue says of a cluster that it has not admitted, as far as that may be read."""
        path = f"/apis/{KUEUE}/namespaces/{quote(self.namespace, safe='')}/workloads"
        try:
            workloads = self._api.items(path)
        except (RayClusterPermissionError, KubeRayMissingError):
            return None
        owned = [each for each in workloads if belongs_to(each, uid_of(cluster))]
        conditions = [each for workload in owned for each in (workload.get("status") or {}).get("conditions") or ()]
        return next((each.get("message") for each in conditions if each["status"] == "False"), None)

    def last_lines(self, crash: Crash) -> str:
        """Return what a process has written last that has died, as a text to be appended, if that can be read."""
        query = {"tailLines": str(LOOKED_AT_LINES), "previous": str(crash.has_begun_anew).lower()}
        if crash.container is not None:
            query["container"] = crash.container
        try:
            text = self._api.text(f"{self._core('pods')}/{quote(crash.pod)}/log", **query)
        except AirflowRayError as error:
            return f". What it has written cannot be read: {error}"
        lines = "\n".join(text.rstrip().splitlines()[-LAST_LINES:])[-LONGEST_LINES:]
        if not lines:
            return ". It has written nothing"
        is_slow = any(each in text for each in SLOW_STARTS)
        return f"{TOO_SLOW if is_slow else ''}. It has written at last:\n{lines}"

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return what a call returns, which is made again as long as the API server is away."""
        return tries(self._patience, is_away)(call)

    def _readable(self, kind: str, **query: str) -> list[dict[str, Any]] | None:
        if kind in self._unreadable:
            return None
        try:
            return self._api.items(self._core(kind), **query)
        except RayClusterPermissionError as error:
            self._unreadable.add(kind)
            log.warning("Less can be told of the cluster, since its %s may not be read. %s", kind, error)
        except NotThereError:
            pass
        return None

    def _path(self, name: str | None = None) -> str:
        return rayclusters(self.namespace, name)

    def _core(self, kind: str) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace, safe='')}/{kind}"


def _may_be_deleted_later(error: BaseException) -> bool:
    return is_away(error) or isinstance(error, ConflictError)


def _manager() -> str:
    """Return in whose name things are applied: of two installations that make a cluster at once, one is refused."""
    return f"airflow-ray-{installation()}"
