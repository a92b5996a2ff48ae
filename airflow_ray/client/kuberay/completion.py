"""What a head needs so that Airflow reaches it, added to a manifest that lacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client.connection.dashboard import DASHBOARD_PORT
from airflow_ray.client.connection.settings import PORTS
from airflow_ray.client.kuberay.manifest import ray_container
from airflow_ray.exceptions import AirflowRayError, RayClusterManifestError, RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_ray.client.connection.settings import RaySettings

TOKEN_KEY = "auth_token"
AUTH_MODE = "RAY_AUTH_MODE"
# How KubeRay calls the ports of a head.
_PORT_NAMES = {"gateway": "gateway", "client": "client", "driver": "gcs-server"}
_SERVE_PORT = 8000


class Access(NamedTuple):
    """How Airflow is to reach a cluster.

    :param port_name: of the port that the connection leads to.
    :param port: its number on the head.
    :param token: of the cluster; None for one that has none.
    """

    port_name: str
    port: int
    token: str | None


def access_of(settings: RaySettings) -> Access:
    """Return how a connection of type ``ray`` reaches its cluster.

    :raises RayConfigurationError: it reaches none on Kubernetes, or lacks the token that mode gateway needs.
    """
    from airflow_ray.client.connection.gateway_start import require_token

    if settings.mode not in _PORT_NAMES:
        raise RayConfigurationError(
            f"Connection {settings.conn_id!r}: mode {settings.mode} computes on the machine of Airflow. Give the "
            "operator a connection that leads to the cluster, in mode gateway, or ray_conn_id=None"
        )
    if settings.mode == "gateway":
        require_token(settings)
    return Access(_PORT_NAMES[settings.mode], settings.port or PORTS[settings.mode], settings.authentication.token)


def secret_name(cluster: str) -> str:
    """Return the name of the Secret with the token of a cluster."""
    return f"{cluster}-airflow-ray"


def named(
    manifest: dict[str, Any], name: str, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> None:
    """Write on a manifest what the cluster is called and whose it is; what it has of these is kept beside."""
    metadata = manifest["metadata"]
    metadata.update(name=name, namespace=namespace)
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}


def completed(manifest: dict[str, Any], access: Access) -> list[str]:
    """Add to a manifest what it lacks, and return what that is, in words; nothing that it says is changed.

    :param manifest: with its name.
    :raises RayClusterManifestError: it is not built as a RayCluster is.
    """
    try:
        return [*_ports(manifest, access), *_start_parameters(manifest), *_environment(manifest, access)]
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, AirflowRayError):
            raise
        raise RayClusterManifestError(f"The manifest is not built as that of a RayCluster: {error}") from error


def sets_token(manifest: dict[str, Any]) -> bool:
    """Return whether a completed manifest takes its token from the Secret that belongs to it."""
    name = secret_name(manifest["metadata"]["name"])
    variables = ray_container(manifest["spec"]["headGroupSpec"], "headGroupSpec").get("env") or []
    references = [each.get("valueFrom", {}).get("secretKeyRef", {}) for each in variables]
    return any(each.get("name") == name for each in references)


def _ports(manifest: dict[str, Any], access: Access) -> Iterator[str]:
    head = manifest["spec"]["headGroupSpec"]
    container = ray_container(head, "headGroupSpec")
    ports = container.get("ports") or []
    parameters = head.get("rayStartParams") or {}
    wanted = {
        # Those that the service of the head leads to as soon as the container names any port.
        "gcs-server": int(parameters.get("port", PORTS["driver"])),
        "dashboard": int(parameters.get("dashboard-port", DASHBOARD_PORT)),
        # Without any, KubeRay takes its own, which stay.
        **({} if ports else {"client": PORTS["client"], "serve": _SERVE_PORT}),
        access.port_name: access.port,
    }
    names, numbers = {each.get("name") for each in ports}, {each.get("containerPort") for each in ports}
    missing = {name: number for name, number in wanted.items() if name not in names and number not in numbers}
    if missing:
        container["ports"] = [*ports, *({"name": each, "containerPort": missing[each]} for each in missing)]
        yield f"the head's ports {', '.join(f'{name} {number}' for name, number in missing.items())}"


def _start_parameters(manifest: dict[str, Any]) -> Iterator[str]:
    head = manifest["spec"]["headGroupSpec"]
    if "dashboard-host" not in (parameters := head.get("rayStartParams") or {}):
        # Over the dashboard the gateway is started.
        head["rayStartParams"] = {**parameters, "dashboard-host": "0.0.0.0"}
        yield "rayStartParams dashboard-host 0.0.0.0"


def _environment(manifest: dict[str, Any], access: Access) -> Iterator[str]:
    spec = manifest["spec"]
    head = ray_container(spec["headGroupSpec"], "headGroupSpec")
    if not _has(head, "GRPC_ENABLE_FORK_SUPPORT"):
        # The server of Ray Client forks while gRPC runs, and its child crashes now and then.
        _set(head, {"name": "GRPC_ENABLE_FORK_SUPPORT", "value": "0"})
        yield "the head's variable GRPC_ENABLE_FORK_SUPPORT=0"
    if access.token is None or "authOptions" in spec or _has(head, AUTH_MODE):
        return
    workers = enumerate(spec.get("workerGroupSpecs") or [])
    processes = [head, *(ray_container(group, f"workerGroupSpecs[{position}]") for position, group in workers)]
    if spec.get("enableInTreeAutoscaling"):
        spec["autoscalerOptions"] = {**(spec.get("autoscalerOptions") or {})}
        processes.append(spec["autoscalerOptions"])
    secret = secret_name(manifest["metadata"]["name"])
    token = {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN_KEY}}}
    for each in processes:
        _set(each, {"name": AUTH_MODE, "value": "token"}, token)
    yield f"Ray's token authentication, with the connection's token in the Secret {secret}"


def _has(container: dict[str, Any], variable: str) -> bool:
    return any(each.get("name") == variable for each in container.get("env") or [])


def _set(container: dict[str, Any], *variables: dict[str, Any]) -> None:
    """Set the variables that a container does not set itself."""
    missing = [each for each in variables if not _has(container, each["name"])]
    container["env"] = [*(container.get("env") or []), *missing]
