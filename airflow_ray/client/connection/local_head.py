"""The way in to the one embedded Ray head of this machine and user, started when it is first needed.

``python -m airflow_ray.hooks.local_head stop`` stops it, ``status`` tells where it is.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_ray.client.connection import as_driver
from airflow_ray.client.connection.authentication import TOKEN_VARIABLES, Authentication
from airflow_ray.client.connection.flight_client import FlightClient
from airflow_ray.client.connection.gateway_session import GatewaySession, opened
from airflow_ray.client.connection.head_process import (
    LocalHead,
    is_ready,
    log_of,
    noted_head,
    open_own,
    start_head,
)
from airflow_ray.client.connection.peer import Peer, listens
from airflow_ray.client.connection.state_folder import state_folder
from airflow_ray.cluster.gateway.command import answer_in
from airflow_ray.cluster.gateway.settings import GatewaySettings
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI


STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
# From here on to join the head as a driver, for which Ray is imported, takes less time than a copy.
LARGE_BYTES = 64_000_000
# Types of values that only a process of the cluster can use.
OF_CLUSTER = ("modin.", "ray.", "xgboost_ray.")
JOIN_SECONDS = 30.0


class LocalSession(GatewaySession):
    """An open connection to the gateway of the embedded head, which joins it as a driver for what is large."""

    def __init__(self, peer: Peer, head: LocalHead) -> None:
        super().__init__(peer)
        self._head = head
        self._joined = ExitStack()

    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Return an object: without a copy where it is large, and as what it is where it needs the cluster."""
        record = self.call("describe", uri.record_id) or {}
        output = record.get("outputs", {}).get(uri.key, {})
        if output.get("bytes", 0) < LARGE_BYTES and not output.get("type", "").startswith(OF_CLUSTER):
            return super().fetch(uri, connect_again)
        joins = as_driver.join(self._head.address, Authentication(token()), self.peer.namespace, JOIN_SECONDS)
        return self._joined.enter_context(joins).fetch(uri, connect_again)

    def close(self) -> None:
        """Leave the head as a driver, where it was joined."""
        self._joined.close()


@contextmanager
def open_session(settings: RaySettings) -> Iterator[LocalSession]:
    """Start the head if none runs, and connect to its gateway.

    :raises RayConnectionError: it did not come to that in time; the text says why.
    """
    deadline = time.monotonic() + settings.connect_timeout
    head = ensure(settings.connect_timeout)
    peer = peer_of(head, settings)

    def start() -> None:
        _start_gateway(head, _gateway_of(head), settings.namespace, deadline)

    with opened(peer, deadline, start):
        session = LocalSession(peer, head)
        try:
            yield session
        finally:
            session.close()


def peer_of(head: LocalHead, settings: RaySettings) -> Peer:
    """Return the gateway of a head, which is not asked for anything yet."""
    from pyarrow import flight

    socket = str(_gateway_of(head).socket)
    return Peer(FlightClient(flight.Location.for_grpc_unix(socket), Authentication()), socket, settings.namespace)


def _gateway_of(head: LocalHead) -> GatewaySettings:
    return GatewaySettings(str(Path(head.temp_dir, "gateway")))


def _start_gateway(head: LocalHead, gateway: GatewaySettings, namespace: str, deadline: float) -> None:
    """Start owner and gateway in a process that has Ray; many at once start one."""
    with _locked(deadline):
        if gateway.note.exists() and listens(str(gateway.socket)):
            return
        environment = {**os.environ, **dict(zip(TOKEN_VARIABLES, ("token", str(token_path())), strict=False))}
        environment.pop("RAY_AUTH_TOKEN", None)
        place = ["--address", head.address, "--namespace", namespace, "--folder", gateway.folder, "--socket-only"]
        try:
            started = subprocess.run(
                [sys.executable, "-m", "airflow_ray.cluster.gateway", "start", *place],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=max(1.0, deadline - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise RayConnectionError(
                "The gateway of the local Ray head did not start within connect_timeout. Clear the task to try again. "
                "On a busy machine, set a longer one in the connection, such as ray://?mode=local&connect_timeout=300"
            ) from None
    if started.returncode:
        reason = (answer_in(started.stdout) or {}).get("error") or started.stderr[-4000:].strip()
        raise RayConnectionError(f"The gateway of the local Ray head did not start: {reason}")


def token_path() -> Path:
    """Return the file that holds the token of the head."""
    return state_folder() / "token"


def token() -> str:
    """Return the token of the head."""
    with open(open_own(token_path(), os.O_RDONLY)) as file:
        return file.read()


def running() -> LocalHead | None:
    """Return the head if it runs and takes connections."""
    head = noted_head(state_folder())
    return head if head is not None and head.alive and is_ready(state_folder()) else None


def ensure(timeout: float) -> LocalHead:
    """Return the head, which is started if none runs; safe when many processes call it at once.

    One that a process has begun to start which was killed meanwhile is taken over.

    :param timeout: seconds until the head must answer.
    :raises RayConnectionError: it did not start; the text says why.
    """
    deadline = time.monotonic() + timeout
    with _locked(deadline) as lock:
        folder = state_folder()
        head = noted_head(folder)
        if head is None or not head.alive:
            _forget(head)
            with open(open_own(token_path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
                file.write(secrets.token_hex(32))
            head = start_head(folder, token_path(), lock.fileno())
        while not is_ready(folder):
            if not head.alive or time.monotonic() > deadline:
                _kill(head)
                raise RayConnectionError(
                    f"The local Ray head did not start:\n{log_of(folder).read_text(errors='replace')[-4000:]}"
                )
            time.sleep(POLL_SECONDS)
        return head


def stop() -> bool:
    """Stop the head with all its processes and return whether one ran."""
    with _locked(time.monotonic() + STOP_SECONDS):
        head = noted_head(state_folder())
        if head is None or not head.alive:
            return False
        os.kill(head.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while head.alive and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        _kill(head)
        return True


@contextmanager
def _locked(deadline: float) -> Iterator[TextIO]:
    with open(open_own(state_folder() / "lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RayConnectionError(
                        f"Another process holds {state_folder()}/lock and has not started or stopped the local Ray "
                        "head in time"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield lock


def _kill(head: LocalHead) -> None:
    """End the processes of a head, which may be gone already, and what it has left."""
    if head.alive:
        os.killpg(head.pid, signal.SIGKILL)
    _forget(head)


def _forget(head: LocalHead | None) -> None:
    if head is not None:
        head.remove_files()
    (state_folder() / "head.json").unlink(missing_ok=True)


def main() -> None:
    """Do what the command line says: ``stop`` or ``status``."""
    if sys.argv[1:] == ["stop"]:
        print("stopped" if stop() else "no local Ray head runs")
    else:
        print(running() or "no local Ray head runs")
