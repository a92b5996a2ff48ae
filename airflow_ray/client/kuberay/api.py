"""Calls of Kubernetes' API: what goes and comes is plain data, and each refusal is an error in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.kuberay.manifest import API_VERSION
from airflow_ray.client.kuberay.refusals import ConflictError, NotThereError, error_of
from airflow_ray.exceptions import KubernetesUnreachableError, RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

# An API server that is upgraded, or a network that is mended, comes back.
AWAY_SECONDS = 300.0
# To connect, and to answer.
REQUEST_SECONDS = (5.0, 15.0)
APPLY = "application/apply-patch+yaml"


class KubernetesApi:
    """The few calls that this package makes.

    :param client: an ``ApiClient`` of the package kubernetes.
    :param conn_id: the Airflow connection that it was made from, for error texts.
    :param seconds: to connect, and to answer.
    """

    def __init__(self, client: Any, conn_id: str, seconds: tuple[float, float] = REQUEST_SECONDS) -> None:
        self._client = client
        self._conn_id = conn_id
        self._seconds = seconds

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, or None if there is none of that name.

        :raises RayClusterError: as :func:`~airflow_ray.client.kuberay.refusals.error_of` says.
        """
        try:
            found: dict[str, Any] = self._json("GET", path)
        except NotThereError:
            return None
        return found

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return the objects of a list.

        :param query: ``labelSelector`` or ``fieldSelector``.
        :raises RayClusterError: as :func:`~airflow_ray.client.kuberay.refusals.error_of` says.
        """
        found: list[dict[str, Any]] = self._json("GET", path, query.items())["items"]
        return found

    def apply(self, path: str, manifest: dict[str, Any], manager: str) -> dict[str, Any]:
        """Make an object as a manifest says, or change it where it is there and says otherwise, and return it.

        :param manager: in whose name; what others have changed since is not changed back.
        :raises ConflictError: others have.
        :raises RayClusterError: as :func:`~airflow_ray.client.kuberay.refusals.error_of` says.
        """
        # As strict as kubectl: a field that is misspelt is an error.
        query = (("fieldManager", manager), ("fieldValidation", "Strict"))
        applied: dict[str, Any] = self._json("PATCH", path, query, manifest, APPLY)
        return applied

    def delete(self, path: str, uid: str, version: str | None = None) -> bool:
        """Delete an object, and return whether it was there.

        :param uid: of the one that is meant; one that has taken its name since stays.
        :param version: of the one that is meant, likewise; None for any.
        :raises RayClusterError: as :func:`~airflow_ray.client.kuberay.refusals.error_of` says.
        """
        meant = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        options = {"propagationPolicy": "Background", "preconditions": meant}
        try:
            self._call("DELETE", path, body=options)
        # Also where the answer was lost, and it was asked once more.
        except (ConflictError, NotThereError):
            return False
        return True

    def text(self, path: str, **query: str) -> str:
        """Return what is no JSON, such as a log.

        :raises RayClusterError: as :func:`~airflow_ray.client.kuberay.refusals.error_of` says.
        """
        return self._call("GET", path, query.items()).decode(errors="replace")

    def _json(self, *call: Any) -> Any:
        data = self._call(*call)
        try:
            return json.loads(data)
        except ValueError as error:
            raise KubernetesUnreachableError(
                f"What answers at {self._client.configuration.host} is not an API server of Kubernetes, but perhaps a "
                f"proxy in front of it: {data[:100]!r}"
            ) from error

    def _call(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        try:
            # Its typed methods differ between releases, and know no RayCluster.
            response = self._client.call_api(
                path,
                method,
                query_params=list(query),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                # Releases before 36 return a status and headers too, otherwise.
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=self._seconds,
            )
            data: bytes = response.data
        except ApiException as error:
            # Those releases leave it undecoded.
            told = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
            raise error_of(error.status or 0, told or str(error.reason), self._conn_id) from error
        except (HTTPError, OSError) as error:
            raise KubernetesUnreachableError(
                f"The API server of Kubernetes at {self._client.configuration.host} cannot be reached: {error}"
            ) from error
        return data


def rayclusters(namespace: str, name: str | None = None) -> str:
    """Return the path of the RayClusters in a namespace, or of one of them."""
    path = f"/apis/{API_VERSION}/namespaces/{quote(namespace, safe='')}/rayclusters"
    return path if name is None else f"{path}/{quote(name, safe='')}"


def is_away(error: BaseException) -> bool:
    """Whether an error says that Kubernetes does not answer at the moment."""
    return isinstance(error, KubernetesUnreachableError)


def open_api(
    kubernetes_conn_id: str, namespace: str | None = None, seconds: float | None = None
) -> tuple[KubernetesApi, str]:
    """Return the API of a connection, and the namespace where nothing else says one.

    :param kubernetes_conn_id: Airflow connection of type ``kubernetes``: a kubeconfig, or the cluster that this process
        runs in.
    :param namespace: None for that of the connection, or else ``default``.
    :param seconds: in which it must answer, where that is less than usual.
    :raises RayConfigurationError: the package for it is missing, or the connection does not lead anywhere.
    """
    try:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        from kubernetes.config import ConfigException
    except ImportError as error:
        raise RayConfigurationError(
            f"Clusters on Kubernetes need the extra kuberay of this package, which is not installed here ({error}): "
            "pip install 'airflow-ray[kuberay]'"
        ) from error
    hook = KubernetesHook(kubernetes_conn_id=kubernetes_conn_id)
    try:
        client = hook.api_client
    except ConfigException as error:
        raise RayConfigurationError(
            f"Connection {kubernetes_conn_id!r} leads to no Kubernetes: {sentence_of(error)} Set in_cluster, or give a "
            "kubeconfig"
        ) from error
    waits = REQUEST_SECONDS if seconds is None else (seconds, seconds)
    return KubernetesApi(client, kubernetes_conn_id, waits), namespace or hook.get_namespace() or hook.DEFAULT_NAMESPACE
