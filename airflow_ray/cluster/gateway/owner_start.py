"""Starting owners from the gateway, for clients whose build has none here yet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import refusal
from airflow_ray.cluster.gateway.calls import SIGN_SECONDS
from airflow_ray.cluster.gateway.settings import START_SECONDS, TOKEN_VARIABLE
from airflow_ray.cluster.protocol import RefusalKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.gateway.calls import OwnerName, Owners
    from airflow_ray.cluster.gateway.settings import GatewaySettings

MAX_BUNDLE_BYTES = 10_000_000
LAST_CHARACTERS = 4000


class OwnerStarts:
    """Starts owners from the bundles of clients, one after the other.

    Tasks that begin at the same time all ask for the same one, and each start takes seconds of a processor: there is
    one for all of them. It goes on when they have gone: on a busy head, each next try would begin it anew and not see
    its end either.

    :param owners: tells which live.
    :param settings: of the gateway.
    :param control_service: host and port of the cluster's.
    """

    def __init__(self, owners: Owners, settings: GatewaySettings, control_service: str) -> None:
        self._owners = owners
        self._settings = settings
        self._control_service = control_service
        self._threads = ThreadPoolExecutor(1, "owner-start")
        # Held from the look for a start that is under way until there is one.
        self._lock = threading.Lock()
        self._begun: dict[OwnerName, Future[None]] = {}

    def start(self, owner: OwnerName, bundle: Any) -> Iterator[None]:
        """Start an owner that does not live, and yield now and then until it does.

        A client could run any code here by submitting it.

        :param bundle: the bytes of what :mod:`airflow_ray.client.connection.bundle` makes.
        :raises Refusal: it did not start; the message says why.
        """
        if not isinstance(bundle, bytes) or len(bundle) > MAX_BUNDLE_BYTES:
            raise refusal(RefusalKind.REFUSED, "There is no bundle to start the owner from")
        with self._lock:
            begun = self._begun.get(owner)
            if begun is None or begun.done():
                begun = self._begun[owner] = self._threads.submit(self._start, owner, bundle)
        while not wait([begun], SIGN_SECONDS).done:
            yield
        begun.result()

    def _start(self, owner: OwnerName, bundle: bytes) -> None:
        if not self._owners.id_of(owner):
            start_owner(self._settings, self._control_service, owner.namespace, bundle)


def start_owner(settings: GatewaySettings, control_service: str, namespace: str, bundle: bytes) -> None:
    """Run the bundle of a client, which starts its owner, and return when it has."""
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
    try:
        done = subprocess.run(
            [sys.executable, str(path), "start", *place, *listens],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=START_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise refusal(RefusalKind.REFUSED, f"It did not start within {START_SECONDS:g} seconds") from None
    if done.returncode:
        raise refusal(RefusalKind.REFUSED, done.stdout[-LAST_CHARACTERS:].strip())
