"""What an Airflow connection of type ``ray`` says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_ray.client.connection.authentication import Authentication, Tls
from airflow_ray.client.connection.secrets import mask_authentication, mask_runtime_env
from airflow_ray.exceptions import RayConfigurationError

MODES = ("client", "driver", "local")


CLIENT_PORT = 10001


CONTROL_PORT = 6379


# Long enough for one crash of the process that serves a Ray Client, which shows after 40 seconds.
CONNECT_TIMEOUT = 60.0


TLS_FIELDS = ("tls_ca_cert", "tls_cert", "tls_key")


@dataclass(frozen=True)
class RaySettings:
    """What an Airflow connection of type ``ray`` says.

    :param conn_id: its name.
    :param mode: ``client``, ``driver`` or ``local``.
    :param address: host and port, or ``auto`` for a driver; empty for ``local``.
    :param namespace: the Ray namespace of the owner.
    :param connect_timeout: seconds until a connection must be there.
    :param runtime_env: Ray runtime environment of all work, under that of the task.
    :param checkpoint_path: where checkpoints go, unless the task says.
    :param checkpoint_conn_id: AWS connection with the credentials for them, unless the task says.
    :param dashboard_url: where people open the Ray dashboard; None for what the cluster says of itself.
    :param object_ttl: seconds after their last use in which objects are released; None keeps them.
    :param authentication: token and TLS.
    """

    conn_id: str
    mode: str
    address: str
    namespace: str = "airflow"
    connect_timeout: float = CONNECT_TIMEOUT
    runtime_env: dict[str, Any] = field(default_factory=dict, repr=False)
    checkpoint_path: str | None = None
    checkpoint_conn_id: str | None = None
    dashboard_url: str | None = None
    object_ttl: float | None = None
    authentication: Authentication = field(default_factory=Authentication)


def settings_of(connection: Any) -> RaySettings:
    """Return what an Airflow connection says; its secrets are masked in logs from here on.

    :raises RayConfigurationError: a field of it is wrong.
    """
    extra = connection.extra_dejson
    mode = extra.get("mode") or ("client" if connection.host else "local")
    if mode not in MODES:
        raise _wrong(connection, "mode", f"one of {', '.join(MODES)}", mode)
    if mode == "client" and not connection.host:
        raise _wrong(connection, "host", "set in mode client", connection.host)
    default_port = CLIENT_PORT if mode == "client" else CONTROL_PORT
    authentication = Authentication(connection.password or None, _tls(connection, extra, mode))
    runtime_env = _runtime_env(connection, extra.get("runtime_env") or {})
    mask_authentication(authentication)
    mask_runtime_env(runtime_env)
    return RaySettings(
        connection.conn_id,
        mode,
        f"{connection.host}:{connection.port or default_port}" if connection.host else "auto",
        extra.get("namespace") or "airflow",
        _seconds(connection, "connect_timeout", extra.get("connect_timeout") or CONNECT_TIMEOUT),
        runtime_env,
        extra.get("checkpoint_path") or None,
        extra.get("checkpoint_conn_id") or None,
        extra.get("dashboard_url") or None,
        _seconds(connection, "object_ttl", extra["object_ttl"]) if extra.get("object_ttl") else None,
        authentication,
    )


def _tls(connection: Any, extra: dict[str, Any], mode: str) -> Tls | None:
    pems = [_pem(connection, name, extra[name]) if extra.get(name) else None for name in TLS_FIELDS]
    if not (_flag(connection, "tls", extra.get("tls")) or any(pems)):
        return None
    tls = Tls(*pems)
    if (tls.cert is None) != (tls.key is None):
        raise _wrong(connection, "tls_cert", "set together with tls_key", "only one of them")
    if mode == "driver" and None in pems:
        raise _wrong(connection, "tls", "accompanied by tls_ca_cert, tls_cert and tls_key in mode driver", "less")
    return tls


def _pem(connection: Any, name: str, value: Any) -> bytes:
    """Return what is PEM itself, or the name of a file with it; a field of a form has no line breaks."""
    text = str(value).replace("\\n", "\n").strip()
    if text.startswith("-----BEGIN"):
        return text.encode()
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        raise RayConfigurationError(
            f"Connection {connection.conn_id!r}: {name} must be a file in PEM on this machine, or its text: {reason}"
        ) from None


def _flag(connection: Any, name: str, value: Any) -> bool:
    flags = {"": False, "none": False, "false": False, "0": False, "true": True, "1": True}
    flag = flags.get(str("" if value is None else value).strip().lower())
    if flag is None:
        raise _wrong(connection, name, "true or false", value)
    return flag


def _seconds(connection: Any, name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise _wrong(connection, name, "a number of seconds", value)
    return seconds


def _runtime_env(connection: Any, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise _wrong(connection, "runtime_env", "a JSON object", "something else")
    return value


def _wrong(connection: Any, name: str, wanted: str, value: Any) -> RayConfigurationError:
    return RayConfigurationError(f"Connection {connection.conn_id!r}: {name} must be {wanted}, got {value!r}")
