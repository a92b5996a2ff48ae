"""Where the head of a RayCluster is, as Kubernetes tells, for machines whose name server does not know it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_ray.client.run_cluster import DAG_ANNOTATION, INSTALLATION_LABEL, RUN_ANNOTATION, installation
from airflow_ray.exceptions import (
    RayClusterGoneError,
    RayConfigurationError,
    RayConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubernetes.client import ApiException

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayclusters"
HEAD_SERVICE = "-head-svc"
# The client asks up to four times.
REQUEST_SECONDS = 5.0
DEFAULT_NAMESPACE = "default"


class KubernetesLookup:
    """Asks one Kubernetes for addresses; Airflow is asked for its connection when this is made, and not later.

    :param conn_id: Airflow connection of type ``kubernetes``: the configuration of the machine's own cluster, or a
        kubeconfig.
    :raises RayConfigurationError: the connection is of no use, or the provider of Kubernetes is not installed.
    """

    def __init__(self, conn_id: str) -> None:
        try:
            from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
            from kubernetes.client import CustomObjectsApi
            from kubernetes.config import ConfigException
        except ImportError as error:
            raise RayConfigurationError(
                "kubernetes_conn_id needs the provider of Kubernetes, which is not installed here: pip install "
                f"'airflow-ray[kuberay]', or remove it from the connection ({error})"
            ) from error
        self._conn_id = conn_id
        hook = KubernetesHook(conn_id=conn_id)
        try:
            self._api = CustomObjectsApi(hook.get_conn())
        except ConfigException as error:
            raise RayConfigurationError(
                f"The connection {conn_id!r}, which kubernetes_conn_id names, leads to no Kubernetes: {error}"
            ) from error
        self._namespace = hook.get_namespace() or DEFAULT_NAMESPACE

    def address_of(self, host: str, seconds: float) -> str:
        """Return the address of the head of a RayCluster.

        :param host: its name, or that of its head service, and after a dot the namespace, unless it is that of the
            connection. What else a name of the cluster's own name server has may follow.
        :param seconds: in which Kubernetes must answer.
        :raises RayClusterGoneError: there is no such RayCluster.
        :raises RayConnectionError: it has no address yet, or Kubernetes does not tell.
        """
        name, namespace = name_and_namespace(host, self._namespace)
        where = f"RayCluster {name!r} in namespace {namespace!r}"
        status = self._get(name, namespace, where, min(REQUEST_SECONDS, seconds)).get("status") or {}
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

    def runs(self, host: str, seconds: float) -> list[tuple[str, str | None]]:
        """Return the ids of DAG and run of each RayCluster that this Airflow has made for them, the oldest first.

        :param host: as it is written in the connection, ``{run}`` and ``{dag}`` in it; tells the namespace.
        :param seconds: in which Kubernetes must answer.
        :raises RayConnectionError: Kubernetes does not tell.
        """
        _, namespace = name_and_namespace(host, self._namespace)
        where = f"RayClusters in namespace {namespace!r}"
        made_here = {"label_selector": f"{INSTALLATION_LABEL}={installation()}"}
        with self._words_for_errors(where):
            found = self._api.list_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, _request_timeout=min(REQUEST_SECONDS, seconds), **made_here
            )
        clusters = [each["metadata"] for each in found["items"]]
        clusters.sort(key=lambda each: str(each.get("creationTimestamp")))
        told = [each.get("annotations") or {} for each in clusters]
        return [(each[DAG_ANNOTATION], each.get(RUN_ANNOTATION)) for each in told if DAG_ANNOTATION in each]

    def _get(self, name: str, namespace: str, where: str, seconds: float) -> dict[str, Any]:
        with self._words_for_errors(where):
            found: dict[str, Any] = self._api.get_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, name, _request_timeout=seconds
            )
        return found

    @contextmanager
    def _words_for_errors(self, where: str) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            self._raise_refusal(error, where)
        except (HTTPError, OSError) as error:
            raise RayConnectionError(
                f"Kubernetes, which the connection {self._conn_id!r} leads to, does not tell the address of the "
                f"{where}: {error}"
            ) from error

    def _raise_refusal(self, error: ApiException, where: str) -> NoReturn:
        said = message_of(error)
        # Of a kind that it does not know, the API server says no more than 404 page not found.
        if error.status == 404 and '" not found' not in said:
            raise RayConfigurationError(
                f"The Kubernetes of the connection {self._conn_id!r} knows no RayClusters. Install KubeRay's operator "
                "there, with its custom resource definitions"
            ) from error
        if error.status == 404:
            raise RayClusterGoneError(
                f"There is no {where}: it was deleted, or not made yet. With it went its objects; one that has a "
                "checkpoint is read from that"
            ) from error
        if error.status in (401, 403):
            raise RayConfigurationError(
                f"The connection {self._conn_id!r} may not read the {where}. Give its account the right to get and "
                f"list {PLURAL} of the group {GROUP} in that namespace. Kubernetes says: {said}"
            ) from error
        raise RayConnectionError(f"Kubernetes does not tell the address of the {where}: {said}") from error


def name_and_namespace(host: str, default: str) -> tuple[str, str]:
    """Return name and namespace of the RayCluster that a host names.

    >>> name_and_namespace("sales-head-svc.ray.svc.cluster.local", "default")
    ('sales', 'ray')
    """
    name, *rest = host.split(".")
    return name.removesuffix(HEAD_SERVICE), rest[0] if rest and rest[0] else default


def message_of(error: ApiException) -> str:
    """Return what Kubernetes says of a request that it refuses, in one line."""
    body = str(error.body or "")
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join(f"{error.status} {error.reason} {body}".split())[:500]
