"""Where the head of a RayCluster is, as Kubernetes tells, for machines whose name server does not know it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ray.client.run_cluster import DAG_ANNOTATION, RUN_ANNOTATION, rendered
from airflow_ray.exceptions import (
    KubeRayMissingError,
    RayClusterError,
    RayClusterGoneError,
    RayClusterNotNamedError,
    RayClusterPermissionError,
    RayConfigurationError,
    RayConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_SERVICE = "-head-svc"
# The client asks up to four times.
REQUEST_SECONDS = 5.0


class KubernetesLookup:
    """Asks one Kubernetes for addresses; Airflow is asked for its connection when this is made, and not later.

    :param conn_id: Airflow connection of type ``kubernetes``: the configuration of the machine's own cluster, or a
        kubeconfig.
    :param seconds: in which Kubernetes must answer.
    :raises RayConfigurationError: the connection is of no use, or the provider of Kubernetes is not installed.
    """

    def __init__(self, conn_id: str, seconds: float) -> None:
        from airflow_ray.client.kuberay.api import open_api

        self._conn_id = conn_id
        self._api, self._namespace = open_api(conn_id, seconds=min(REQUEST_SECONDS, seconds))

    def address_of(self, host: str) -> str:
        """Return the address of the head of a RayCluster.

        :param host: its name, or that of its head service, and after a dot the namespace, unless it is that of the
            connection. What else a name of the cluster's own name server has may follow.
        :raises RayClusterGoneError: there is no such RayCluster.
        :raises RayConnectionError: it has no address yet, or Kubernetes does not tell.
        """
        from airflow_ray.client.kuberay.api import rayclusters

        name, namespace = name_and_namespace(host, self._namespace)
        where = f"RayCluster {name!r} in namespace {namespace!r}"
        with self._errors_of_a_connection(where):
            cluster = self._api.get(rayclusters(namespace, name))
        if cluster is None:
            raise RayClusterGoneError(
                f"There is no {where}: it was deleted, or not made yet. With it went its objects; one that has a "
                "checkpoint is read from that"
            )
        status = cluster.get("status") or {}
        head = status.get("head") or {}
        # A service without an address of its own, or an operator that tells none, leaves that of the pod.
        told = [head.get(name) for name in ("serviceIP", "podIP")]
        address = next((each for each in told if each and each != "None"), None)
        if address is None:
            state = status.get("state") or "its operator has not said anything of it"
            raise RayConnectionError(
                f"The head of the {where} has no address yet: {status.get('reason') or state}. Let the task that makes "
                "the cluster wait until it is ready"
            )
        return str(address)

    def runs(self, host: str) -> list[tuple[str, str | None]]:
        """Return the ids of DAG and run of each RayCluster that this Airflow has made for them, the oldest first.

        Those of other connections, whose names are made in another way, are left out.

        :param host: as it is written in the connection, ``{run}`` and ``{dag}`` in it; tells the namespace.
        :raises RayConnectionError: Kubernetes does not tell.
        """
        from airflow_ray.client.kuberay.api import rayclusters
        from airflow_ray.client.kuberay.origin import own_clusters

        _, namespace = name_and_namespace(host, self._namespace)
        with self._errors_of_a_connection(f"RayClusters in namespace {namespace!r}"):
            clusters = self._api.items(rayclusters(namespace), labelSelector=own_clusters())
        found = sorted((each["metadata"] for each in clusters), key=lambda each: str(each.get("creationTimestamp")))
        told = [(each["name"], each.get("annotations") or {}) for each in found]
        runs = [(name, (ids[DAG_ANNOTATION], ids.get(RUN_ANNOTATION))) for name, ids in told if DAG_ANNOTATION in ids]
        return [run for name, run in runs if name == self._name_for(host, run)]

    def _name_for(self, host: str, run: tuple[str, str | None]) -> str | None:
        """Return the name of the RayCluster of a DAG run, or None where each run has one and no run is known."""
        try:
            return name_and_namespace(rendered(host, *run), self._namespace)[0]
        except RayClusterNotNamedError:
            return None

    @contextmanager
    def _errors_of_a_connection(self, where: str) -> Iterator[None]:
        """Raise what whoever connects knows: another try may end better, or somebody has to correct something."""
        try:
            yield
        except (RayClusterPermissionError, KubeRayMissingError) as error:
            raise RayConfigurationError(f"The address of the {where} cannot be found out. {error}") from error
        except RayClusterError as error:
            raise RayConnectionError(
                f"Kubernetes, which the connection {self._conn_id!r} leads to, does not tell the address of the "
                f"{where}: {error}"
            ) from error


def name_and_namespace(host: str, default: str) -> tuple[str, str]:
    """Return name and namespace of the RayCluster that a host names.

    >>> name_and_namespace("sales-head-svc.ray.svc.cluster.local", "default")
    ('sales', 'ray')
    """
    name, *rest = host.split(".")
    return name.removesuffix(HEAD_SERVICE), rest[0] if rest and rest[0] else default
