"""What an Airflow connection of type ``ray`` says."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from airflow_ray.client.connection.authentication import Authentication, Tls
from airflow_ray.client.connection.secrets import mask_authentication, mask_runtime_env
from airflow_ray.client.pem import read_pem
from airflow_ray.exceptions import RayConfigurationError

Mode = Literal["client", "driver", "local"]


CLIENT_PORT = 10001


CONTROL_PORT = 6379


# Long enough for one crash of the process that serves a Ray Client, which shows after 40 seconds.
CONNECT_TIMEOUT = 60.0


# A thread waits for each connection that is in the making.
MAX_CONNECT_TIMEOUT = 3600.0


# Tells errors that name their field from pydantic's own.
OWN_ERROR = "field"


def settings_of(connection: Any) -> RaySettings:
    """Return what an Airflow connection says; its secrets are masked in logs from here on.

    :raises RayConfigurationError: a field of it is wrong.
    """
    standard = {"conn_id": connection.conn_id, "host": connection.host, "port": connection.port}
    fields = {**connection.extra_dejson, **standard, "password": connection.password}
    try:
        # A field that is left empty in a form says nothing.
        settings = RaySettings.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        field = "" if first["type"] == OWN_ERROR else f"{'.'.join(map(str, first['loc']))}: "
        raise RayConfigurationError(f"Connection {connection.conn_id!r}: {field}{first['msg']}") from None
    mask_authentication(settings.authentication)
    mask_runtime_env(settings.runtime_env)
    return settings


def _must_be(field: str, shape: str, value: Any) -> PydanticCustomError:
    return _wrong(f"{field} must be {shape}, got {value!r}")


def _wrong(problem: str) -> PydanticCustomError:
    return PydanticCustomError(OWN_ERROR, "{problem}", {"problem": problem})


def _mode(value: Any) -> Any:
    if value not in get_args(Mode):
        raise _must_be("mode", f"one of {', '.join(get_args(Mode))}", value)
    return value


def _seconds(name: str, at_most: float = math.inf) -> BeforeValidator:
    def seconds(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            raise _must_be(name, "a number of seconds", value)
        if number > at_most:
            raise _must_be(name, f"{at_most:g} seconds at most", value)
        return number

    return BeforeValidator(seconds)


def _flag(value: Any) -> bool:
    flags = {"none": False, "false": False, "0": False, "true": True, "1": True}
    flag = flags.get(str(value).strip().lower())
    if flag is None:
        raise _must_be("tls", "true or false", value)
    return flag


def _runtime_env(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise _must_be("runtime_env", "a JSON object", "something else")
    return value


def _web_address(value: Any) -> str:
    address = str(value)
    # A browser that opens another one may run what it says.
    if not address.startswith(("http://", "https://")):
        raise _must_be("dashboard_url", "an address that begins with http:// or https://", value)
    return address


def _pem(name: str) -> BeforeValidator:
    def pem(value: Any) -> bytes:
        """Return what is PEM itself, or the name of a file with it; a field of a form has no line breaks."""
        text = str(value).replace("\\n", "\n").strip()
        if text.startswith("-----BEGIN"):
            return text.encode()
        try:
            return read_pem(text)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
            raise _wrong(f"{name} must be a file in PEM on this machine, or its text: {reason}") from None

    return BeforeValidator(pem)


class RaySettings(BaseModel):
    """What an Airflow connection of type ``ray`` says.

    :param conn_id: its name.
    :param host: of the Ray head; None for the cluster of this machine.
    :param port: of the Ray Client server, or of the cluster's control service; None for the usual one.
    :param password: the cluster's token.
    :param mode: the way in; None goes by ``host``.
    :param namespace: the Ray namespace of the owner.
    :param connect_timeout: seconds until a connection must be there.
    :param runtime_env: Ray runtime environment of all work, under that of the task.
    :param checkpoint_path: where checkpoints go, unless the task says.
    :param checkpoint_conn_id: AWS connection with the credentials for them, unless the task says.
    :param dashboard_url: where people open the Ray dashboard; None for what the cluster says of itself.
    :param object_ttl: seconds after their last use in which objects are released; None keeps them.
    :param tls: whether the cluster speaks TLS; the fields after it, each in PEM, imply it.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True)

    conn_id: str
    host: str | None = None
    port: int | None = None
    password: SecretStr | None = None
    mode: Annotated[Mode, BeforeValidator(_mode)]
    namespace: str = "airflow"
    connect_timeout: Annotated[float, _seconds("connect_timeout", MAX_CONNECT_TIMEOUT)] = CONNECT_TIMEOUT
    runtime_env: Annotated[dict[str, Any], BeforeValidator(_runtime_env)] = Field(default_factory=dict, repr=False)
    checkpoint_path: str | None = None
    checkpoint_conn_id: str | None = None
    dashboard_url: Annotated[str, BeforeValidator(_web_address)] | None = None
    object_ttl: Annotated[float, _seconds("object_ttl")] | None = None
    tls: Annotated[bool, BeforeValidator(_flag)] = False
    tls_ca_cert: Annotated[bytes, _pem("tls_ca_cert")] | None = Field(default=None, repr=False)
    tls_cert: Annotated[bytes, _pem("tls_cert")] | None = Field(default=None, repr=False)
    tls_key: Annotated[bytes, _pem("tls_key")] | None = Field(default=None, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _with_mode(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {"mode": "client" if fields.get("host") else "local", **fields}

    @model_validator(mode="after")
    def _fit_together(self) -> RaySettings:
        if self.mode == "client" and not self.host:
            raise _must_be("host", "set in mode client", self.host)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise _must_be("tls_cert", "set together with tls_key", "only one of them")
        pems = self.tls_ca_cert, self.tls_cert, self.tls_key
        if self.mode == "driver" and self.authentication.tls and None in pems:
            raise _must_be("tls", "accompanied by tls_ca_cert, tls_cert and tls_key in mode driver", "less")
        return self

    @property
    def address(self) -> str:
        """Host and port, or ``auto`` for the cluster of this machine."""
        default_port = CLIENT_PORT if self.mode == "client" else CONTROL_PORT
        return f"{self.host}:{self.port or default_port}" if self.host else "auto"

    @property
    def authentication(self) -> Authentication:
        """Token and TLS."""
        pems = self.tls_ca_cert, self.tls_cert, self.tls_key
        token = self.password.get_secret_value() if self.password else None
        return Authentication(token, Tls(*pems) if self.tls or any(pems) else None)
