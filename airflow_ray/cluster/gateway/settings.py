"""Where the gateway of a head is, and how it is told so."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: The environment variable with the token, for those who start a gateway by hand.
TOKEN_VARIABLE = "AIRFLOW_RAY_GATEWAY_TOKEN"
#: Flight's usual port; Ray's workers take 10002 to 19999.
PORT = 8815
# Of the gateway and of an owner. On a head whose processors are all busy, the imports alone have taken 40 seconds; who
# begins a start anew before its end never sees one.
START_SECONDS = 300.0


@dataclass(frozen=True)
class GatewaySettings:
    """What the process of a gateway is told when it starts.

    :param folder: of this head and user, which nobody else can enter: its files are below.
    :param host: the address that it listens on; None for the socket in its folder alone.
    :param port: of that address.
    """

    folder: str
    host: str | None = None
    port: int = PORT

    @property
    def socket(self) -> Path:
        """The Unix socket, for this machine."""
        return Path(self.folder, "gateway.sock")

    @property
    def tokens(self) -> Path:
        """The file with the SHA-256 sums of the tokens that are let in, in hexadecimal digits, one in each line."""
        return Path(self.folder, "tokens")

    @property
    def lock(self) -> Path:
        """The file that whoever keeps the gateway holds a lock of, so that there is one for each head."""
        return Path(self.folder, "lock")

    @property
    def note(self) -> Path:
        """The file that tells where the gateway is that runs, as JSON."""
        return Path(self.folder, "gateway.json")

    @property
    def log(self) -> Path:
        """The file that its process writes to."""
        return Path(self.folder, "gateway.log")


def default_folder(control_service: str) -> str:
    """Return the folder for a head of this machine and user.

    A path of a socket has 107 bytes at most.

    :param control_service: host and port of the cluster's control service.
    """
    head = hashlib.sha256(control_service.encode()).hexdigest()[:12]
    return str(Path(tempfile.gettempdir(), f"airflow-ray-{os.getuid()}", f"gateway-{head}"))


def sum_of(token: str) -> str:
    """Return by what the gateway knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()
