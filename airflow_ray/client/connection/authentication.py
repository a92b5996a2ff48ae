"""Token and TLS of one connection, which no other connection of the process gets to see."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")
TLS_VARIABLES = ("RAY_USE_TLS", "RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")


@dataclass(frozen=True)
class Tls:
    """What a connection by TLS takes, each in PEM.

    :param ca_cert: certificates of those who may sign the cluster's; None for what this machine trusts.
    :param cert: the certificate that the cluster asks for.
    :param key: the private key of ``cert``.
    :param name: what the cluster's certificate must name; None for the host that is connected to.
    """

    ca_cert: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    name: str | None = None


@dataclass(frozen=True)
class Authentication:
    """How one connection proves who it is, and sees who the cluster is.

    :param token: the token of a cluster that asks for one; None leaves it to Ray's own environment variables and files.
    :param tls: None likewise.
    """

    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes with each call of a Ray Client; the cluster takes the first token, and Ray adds its own last."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    @property
    def credentials(self) -> Any:
        """What gRPC takes for a channel, or None."""
        import grpc

        return self.tls and grpc.ssl_channel_credentials(self.tls.ca_cert, self.tls.key, self.tls.cert)

    def prepare_driver(self, folder: Path) -> AbstractContextManager[None]:
        """Return what lets Ray read token and certificates for the driver that this process becomes meanwhile.

        Ray takes them from environment variables, which are as before in the end: they name files that only this user
        can read, and that must stay for as long as the driver does.

        :param folder: where the files go.
        """
        return _read_by_ray({**self._token_variables(folder), **self._tls_variables(folder)})

    def _token_variables(self, folder: Path) -> dict[str, str | None]:
        if not self.token:
            return {}
        values = ("token", str(_private_file(folder, "token", self.token.encode())), None)
        return dict(zip(TOKEN_VARIABLES, values, strict=True))

    def _tls_variables(self, folder: Path) -> dict[str, str | None]:
        if self.tls is None:
            return {}
        pems = {"ca": self.tls.ca_cert, "cert": self.tls.cert, "key": self.tls.key}
        files = [str(_private_file(folder, name, pem)) if pem else None for name, pem in pems.items()]
        return dict(zip(TLS_VARIABLES, ["1", *files], strict=True))


def _private_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


@contextmanager
def _read_by_ray(variables: dict[str, str | None]) -> Iterator[None]:
    """Set environment variables, or unset those that are None, let Ray read them, and bring back what was there."""
    saved = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        if variables:
            read_again()
        yield
    finally:
        _set(saved)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def read_again() -> None:
    """Let Ray read token and certificates anew, for a driver that has its own and after it."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    # From here on it is in Ray's memory.
    loader.has_token()
