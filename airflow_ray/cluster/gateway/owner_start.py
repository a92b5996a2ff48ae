"""Starting an owner from the gateway, for a client whose build has none here yet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import refusal
from airflow_ray.cluster.gateway.settings import TOKEN_VARIABLE
from airflow_ray.cluster.protocol import RefusalKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.gateway.settings import GatewaySettings

MAX_BUNDLE_BYTES = 10_000_000
LAST_CHARACTERS = 4000


def start_owner(
    settings: GatewaySettings, control_service: str, namespace: str, bundle: Any, sign_seconds: float
) -> Iterator[None]:
    """Run the bundle of a client, which starts its owner, and yield now and then until it has.

    A client could run any code here by submitting it.

    :param bundle: the bytes of what :mod:`airflow_ray.client.connection.bundle` makes.
    :param sign_seconds: between two yields.
    :raises Refusal: it did not start; the message says why.
    """
    if not isinstance(bundle, bytes) or len(bundle) > MAX_BUNDLE_BYTES:
        raise refusal(RefusalKind.REFUSED, "There is no bundle to start the owner from")
    path = Path(settings.folder, hashlib.sha256(bundle).hexdigest()[:12], "airflow_ray_gateway.pyz")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # Each writes the same, and a reader sees all of it.
    new = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
    new.write_bytes(bundle)
    new.replace(path)
    listens = ["--socket-only"] if settings.host is None else ["--host", settings.host, "--port", str(settings.port)]
    place = ["--address", control_service, "--namespace", namespace, "--folder", settings.folder]
    # A token in the environment of the head is that of its first start, and may be one that was replaced since.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, str(path), "start", *place, *listens],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=sign_seconds)
                break
            except subprocess.TimeoutExpired:
                yield
    finally:
        process.kill()
    if process.returncode:
        raise refusal(RefusalKind.REFUSED, output[-LAST_CHARACTERS:].strip())
