"""What an Airflow connection of type ``ray`` says."""

from __future__ import annotations

import difflib
import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from airflow_ray._compat import conf
from airflow_ray.client.connection import fields
from airflow_ray.client.connection.authentication import Authentication, Tls
from airflow_ray.client.connection.clusters import Cluster, require_known_name
from airflow_ray.client.connection.fields import OWN_ERROR, must_be, wrong
from airflow_ray.client.connection.kubernetes_address import KubernetesLookup
from airflow_ray.client.connection.secrets import mask_authentication, mask_runtime_env
from airflow_ray.client.run_cluster import require_named
from airflow_ray.cluster.gateway.settings import PORT
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

Mode = Literal["gateway", "client", "driver", "local"]
CONN_TYPE = "ray"
# Of each way in, by its mode, unless the connection says another one.
PORTS = {"gateway": PORT, "client": 10001, "driver": 6379}
# Long enough for one crash of the process that serves a Ray Client, which shows after 40 seconds.
CONNECT_TIMEOUT = 60.0
# A thread waits for each connection that is in the making.
MAX_CONNECT_TIMEOUT = 3600.0


# What other packages of the same connection type keep in its extra, to reach a cluster by it.
FOREIGN_FIELDS = frozenset(
    {
        "address",
        "cluster_context",
        "cookies",
        "create_cluster_if_needed",
        "disable_job_log_to_stdout",
        "disable_tcp_keepalive",
        "disable_verify_ssl",
        "headers",
        "kube_config",
        "kube_config_path",
        "metadata",
        "verify",
    }
)


WHERE_TO = (
    "Set host to the Ray head, or mode to 'driver' where this machine is a node of the cluster, or to 'local' for an "
    "embedded Ray on this machine"
)


def settings_of(connection: Any, seconds: float = math.inf) -> RaySettings:
    """Return what an Airflow connection says; its secrets are masked in logs from here on.

    :param seconds: in which Kubernetes must tell where the cluster is, where that is less than usual.
    :raises RayConfigurationError: it is of another type, whose password is no token, or a field of it is wrong.
    """
    if connection.conn_type != CONN_TYPE:
        raise RayConfigurationError(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}, and not {CONN_TYPE!r}: nothing of "
            "it was used. Name a connection of that type, or change the type of this one"
        )
    # 0 is what Airflow's form takes a port for that was left empty, when it tests a connection.
    standard = {"conn_id": connection.conn_id, "host": connection.host, "port": connection.port or None}
    told = {**connection.extra_dejson, **standard, "password": connection.password}
    try:
        # A field that is left empty in a form says nothing, and neither does a box that is not ticked.
        given = {name: each for name, each in told.items() if each not in (None, "")}
        given = {name: each for name, each in given.items() if each is not False or name == "dashboard_verify"}
        settings = RaySettings.model_validate({**_defaults(), **given})
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        field = "" if first["type"] == OWN_ERROR else f"{'.'.join(map(str, first['loc']))}: "
        raise RayConfigurationError(f"Connection {connection.conn_id!r}: {field}{first['msg']}") from None
    mask_authentication(settings.authentication)
    mask_runtime_env(settings.runtime_env)
    # A proxy may ask for a password in it.
    mask_runtime_env({"dashboard_url": settings.dashboard_url, "env_vars": settings.dashboard_headers})
    if settings.kubernetes_conn_id is None:
        return settings
    # Here, as Airflow tells connections in some threads alone, and those that connect may be others.
    return settings.with_lookup(KubernetesLookup(settings.kubernetes_conn_id, min(settings.connect_timeout, seconds)))


def _defaults() -> dict[str, Any]:
    """Return what holds for all connections that say nothing else.

    :raises RayConfigurationError: it is wrong.
    """
    text = conf.get("airflow_ray", "object_ttl", fallback=None)
    if not text:
        return {}
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise RayConfigurationError(f"[airflow_ray] object_ttl must be a number of seconds, got {text!r}")
    return {"object_ttl": seconds}


def _mode(value: Any) -> Any:
    if value not in get_args(Mode):
        raise must_be("mode", f"one of {', '.join(get_args(Mode))}", value)
    return value


def _seconds(name: str, at_most: float = math.inf) -> BeforeValidator:
    def seconds(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            raise must_be(name, "a number of seconds", value)
        if number > at_most:
            raise must_be(name, f"{at_most:g} seconds at most", value)
        return number

    return BeforeValidator(seconds)


def _require_known(names: AbstractSet[str], known: AbstractSet[str]) -> None:
    """Refuse a field of which its writer expects what it cannot have here."""
    for name in names - known:
        if name in FOREIGN_FIELDS:
            raise wrong(f"{name} is a field of another Ray package, which is not read here. {WHERE_TO}, and remove it")
        if near := difflib.get_close_matches(name, known, 1, 0.8):
            raise wrong(f"there is no field {name}. Is it {near[0]}?")


def _pem(name: str) -> BeforeValidator:
    return BeforeValidator(functools.partial(fields.pem_of, name))


class RaySettings(BaseModel):
    """What an Airflow connection of type ``ray`` says.

    :param conn_id: its name.
    :param host: of the Ray head; None for the cluster of this machine, in mode ``driver`` or ``local``. ``{run}`` and
        ``{dag}`` in it stand for the name of the cluster of a DAG run, or of a DAG.
    :param port: of the gateway, of the Ray Client server, or of the cluster's control service; None for the usual one.
    :param password: the cluster's token.
    :param mode: the way in; ``client`` unless set, where there is a host: what it was before there was another.
    :param namespace: the Ray namespace of the owner.
    :param connect_timeout: seconds until a connection must be there.
    :param runtime_env: Ray runtime environment of all work, under that of the task.
    :param checkpoint_path: where checkpoints go, unless the task says.
    :param checkpoint_conn_id: AWS connection with the credentials for them, unless the task says.
    :param dashboard_url: where people open the Ray dashboard; None for what the cluster says of itself.
    :param dashboard_headers: what goes with each request to the dashboard, for a proxy before it; a cookie is a header.
    :param dashboard_verify: whether the certificate of the dashboard is verified, or by which others, in PEM.
    :param object_ttl: seconds after their last use in which objects are released, by default what Airflow's
        configuration says; None keeps them.
    :param kubernetes_conn_id: Airflow connection of the Kubernetes that tells the address of the head; ``host`` is then
        the name of the RayCluster, or of its head service.
    :param tls: whether the cluster speaks TLS; the fields after it, each in PEM, imply it.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True)

    conn_id: str
    host: Annotated[str, BeforeValidator(fields.host)] | None = None
    port: Annotated[int, BeforeValidator(fields.port)] | None = None
    password: SecretStr | None = None
    mode: Annotated[Mode, BeforeValidator(_mode)]
    namespace: str = "airflow"
    connect_timeout: Annotated[float, _seconds("connect_timeout", MAX_CONNECT_TIMEOUT)] = CONNECT_TIMEOUT
    runtime_env: Annotated[dict[str, Any], BeforeValidator(fields.runtime_env)] = Field(
        default_factory=dict, repr=False
    )
    checkpoint_path: str | None = None
    checkpoint_conn_id: str | None = None
    dashboard_url: Annotated[str, BeforeValidator(fields.web_address)] | None = None
    dashboard_headers: Annotated[dict[str, str], BeforeValidator(fields.headers)] = Field(
        default_factory=dict, repr=False
    )
    dashboard_verify: Annotated[bool | bytes, BeforeValidator(fields.verify)] = True
    object_ttl: Annotated[float, _seconds("object_ttl")] | None = None
    kubernetes_conn_id: str | None = None
    tls: Annotated[bool, BeforeValidator(fields.tls)] = False
    tls_ca_cert: Annotated[bytes, BeforeValidator(functools.partial(fields.authorities_of, "tls_ca_cert"))] | None = (
        Field(default=None, repr=False)
    )
    tls_cert: Annotated[bytes, _pem("tls_cert")] | None = Field(default=None, repr=False)
    tls_key: Annotated[bytes, _pem("tls_key")] | None = Field(default=None, repr=False)
    _cluster: Cluster | None = PrivateAttr(None)
    _lookup: KubernetesLookup | None = PrivateAttr(None)
    # What the certificate of the cluster names, where the host is an address that Kubernetes has told.
    _certified_name: str | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _with_mode(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Add the mode that a host implies: an unfinished connection must not compute on the machine of Airflow."""
        _require_known(fields.keys(), cls.model_fields.keys())
        if not (fields.get("host") or fields.get("mode")):
            raise wrong(f"neither host nor mode is set. {WHERE_TO}")
        return {"mode": "client", **fields}

    @model_validator(mode="after")
    def _fit_together(self) -> RaySettings:
        if self.mode in ("gateway", "client") and not self.host:
            raise wrong(f"host is missing, which mode {self.mode} needs")
        if self.mode == "local" and self.host:
            raise wrong(
                f"mode local computes on this machine, and host names {self.host!r}. Remove host, or set another mode"
            )
        pems = {"tls_ca_cert": self.tls_ca_cert, "tls_cert": self.tls_cert, "tls_key": self.tls_key}
        missing = [name for name, pem in pems.items() if pem is None]
        for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            if one in missing and other not in missing:
                raise wrong(f"{one} is missing, which belongs to {other}")
        if self.mode == "driver" and self.authentication.tls and missing:
            raise wrong(f"mode driver needs three files for TLS, and misses {', '.join(missing)}")
        fields.require_same_placeholders(self.host, self.dashboard_url)
        if self.kubernetes_conn_id is not None:
            fields.require_fit_for_kubernetes(self.host, self.mode, self.authentication.tls is not None)
        return self

    @property
    def address(self) -> str:
        """Host and port, or ``auto`` for the cluster of this machine."""
        return f"{self.host}:{self.port or PORTS[self.mode]}" if self.host else "auto"

    @property
    def authentication(self) -> Authentication:
        """Token and TLS."""
        pems = self.tls_ca_cert, self.tls_cert, self.tls_key
        token = self.password.get_secret_value() if self.password else None
        return Authentication(token, Tls(*pems, self._certified_name) if self.tls or any(pems) else None)

    @property
    def cluster(self) -> Cluster:
        """Which of the clusters of the connection this leads to."""
        return self._cluster or Cluster(self.conn_id)

    def of_cluster(self, cluster: Cluster) -> RaySettings:
        """Return the same, as that of one of the clusters of the connection."""
        copy = self.model_copy()
        copy._cluster = cluster
        return copy

    def with_lookup(self, lookup: KubernetesLookup) -> RaySettings:
        """Return the same, with whom to ask for the address of the head."""
        copy = self.model_copy()
        copy._lookup = lookup
        return copy

    def runs(self) -> list[tuple[str, str | None]] | None:
        """Return the ids of DAG and run of each cluster of the connection, or None where nobody tells.

        :raises RayConnectionError: Kubernetes does not tell.
        """
        return None if self._lookup is None else self._lookup.runs(self.host or "")

    def located(self) -> RaySettings:
        """Return the same with the address of the head as its host, asked of Kubernetes where the connection says so.

        :raises RayClusterNotNamedError: the host stands for several clusters, and it was not said which.
        :raises RayClusterGoneError: there is no such cluster.
        :raises RayConnectionError: it has no address yet, or Kubernetes does not tell.
        """
        if self.host is None:
            return self
        require_named(self.host)
        if self._lookup is None:
            if not self.cluster.is_shared:
                require_known_name(self.host, self.cluster, self.connect_timeout)
            return self
        copy = self.model_copy(update={"host": self._lookup.address_of(self.host)})
        copy._certified_name, copy._lookup = self.host, None
        return copy
