"""What an Airflow connection of type ``ray`` says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from airflow_ray.exceptions import RayConfigurationError

MODES = ("client", "driver", "local")
CLIENT_PORT = 10001
CONTROL_PORT = 6379
# Long enough for one crash of the process that serves a Ray Client, which shows after 40 seconds.
CONNECT_TIMEOUT = 60.0


@dataclass(frozen=True)
class RaySettings:
    """What an Airflow connection of type ``ray`` says.

    :param mode: ``client``, ``driver`` or ``local``.
    :param address: host and port, or ``auto`` for a driver; empty for ``local``.
    :param namespace: the Ray namespace of the owner.
    :param connect_timeout: seconds until a connection must be there.
    :param runtime_env: Ray runtime environment of all work, under that of the task.
    :param checkpoint_path: where checkpoints go, unless the task says.
    :param checkpoint_conn_id: AWS connection with the credentials for them, unless the task says.
    :param dashboard_url: where people open the Ray dashboard; None for what the cluster says of itself.
    :param object_ttl: seconds after their last use in which objects are released; None keeps them.
    """

    mode: str
    address: str
    namespace: str = "airflow"
    connect_timeout: float = CONNECT_TIMEOUT
    runtime_env: dict[str, Any] = field(default_factory=dict, repr=False)
    checkpoint_path: str | None = None
    checkpoint_conn_id: str | None = None
    dashboard_url: str | None = None
    object_ttl: float | None = None


def settings_of(connection: Any) -> RaySettings:
    """Return what an Airflow connection says.

    :raises RayConfigurationError: a field of it is wrong.
    """
    extra = connection.extra_dejson
    mode = extra.get("mode") or ("client" if connection.host else "local")
    if mode not in MODES:
        raise _wrong(connection, "mode", f"one of {', '.join(MODES)}", mode)
    if mode == "client" and not connection.host:
        raise _wrong(connection, "host", "set in mode client", connection.host)
    default_port = CLIENT_PORT if mode == "client" else CONTROL_PORT
    return RaySettings(
        mode,
        f"{connection.host}:{connection.port or default_port}" if connection.host else "auto",
        extra.get("namespace") or "airflow",
        _seconds(connection, "connect_timeout", extra.get("connect_timeout") or CONNECT_TIMEOUT),
        _runtime_env(connection, extra.get("runtime_env") or {}),
        extra.get("checkpoint_path") or None,
        extra.get("checkpoint_conn_id") or None,
        extra.get("dashboard_url") or None,
        _seconds(connection, "object_ttl", extra["object_ttl"]) if extra.get("object_ttl") else None,
    )


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
