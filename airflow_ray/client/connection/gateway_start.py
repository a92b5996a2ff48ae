"""Starting the gateway of a cluster from here, where nothing answers at its port: through what else is open."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import socket
import time
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import airflow_ray.cluster
from airflow_ray.client.connection.bundle import package_with_bundle
from airflow_ray.client.connection.dashboard import DASHBOARD_PORT, Dashboard
from airflow_ray.client.connection.head_process import open_own
from airflow_ray.client.connection.settings import PORTS
from airflow_ray.client.connection.state_folder import state_folder
from airflow_ray.cluster.build import own_build
from airflow_ray.cluster.gateway.command import MIN_TOKEN_LENGTH, answer_in
from airflow_ray.cluster.gateway.settings import PORT, sum_of
from airflow_ray.cluster.protocol import BUNDLE_NAME
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayConfigurationError,
    RayConnectionError,
    RayGatewayUnreachableError,
    RayVersionMismatchError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_ray.client.connection.settings import RaySettings

CLIENT_PORT = PORTS["client"]
PROBE_SECONDS = 3.0
# In which a gateway that has just been started comes to answer from here.
REACH_SECONDS = 10.0
# In which one that cannot be reached is not started again from this machine.
REMEMBERED_SECONDS = 600.0
# In which the jobs of several tasks that want the same have the same name.
SHARED_SECONDS = 600
LAST_LINES = 15
WITH_CLUSTER = "start the gateway with the cluster: python -m airflow_ray gateway bundle writes the file for that"

log = logging.getLogger(__name__)


def require_token(settings: RaySettings) -> str:
    """Return the token of a connection over the network.

    :raises RayConfigurationError: it has none that nobody could guess.
    """
    token = settings.authentication.token or ""
    # Of others gRPC makes an end of the process.
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise RayConfigurationError(
            f"Connection {settings.conn_id!r}: the password holds characters that no token of a gateway may have: it "
            "must be of ASCII that can be printed, without spaces or line breaks at its ends"
        )
    if len(token) < MIN_TOKEN_LENGTH:
        has = f"one of {len(token)}" if token else "none"
        raise RayConfigurationError(
            f"Connection {settings.conn_id!r}: mode gateway needs a token of {MIN_TOKEN_LENGTH} characters or more as "
            f"the password, and there is {has}. Whoever has it may run code on the cluster. Make one, for example by "
            "python -c 'import secrets; print(secrets.token_hex(32))'; the cluster learns it from the connection"
        )
    return token


def ensure_started(settings: RaySettings, deadline: float) -> None:
    """Start gateway and owner of a cluster; many tasks may do so at once, and one gateway starts.

    :param settings: of a connection at whose port nothing answers.
    :param deadline: until when it must answer, by the monotonic clock.
    :raises RayConfigurationError: the connection has no token.
    :raises RayGatewayUnreachableError: it was started, and cannot be reached from here.
    :raises RayVersionMismatchError: the head lacks what it needs.
    :raises RayConnectionError: it could not be started; the subclass and the text tell why.
    """
    require_token(settings)
    _raise_if_remembered(settings)
    note, dashboard_url = _start(settings, deadline)
    place = _host_of(settings), settings.port or PORT
    until = min(deadline, time.monotonic() + REACH_SECONDS)
    while not _answers(*place):
        if time.monotonic() > until:
            _require_head(settings, dashboard_url)
            raise _unreachable(settings, note)
        time.sleep(0.2)
    _memory_of(settings).unlink(missing_ok=True)


def start_through_job(dashboard: Dashboard, settings: RaySettings) -> dict[str, Any]:
    """Start gateway and owner by a job, and return the note of the gateway.

    :raises RayConnectionError: as :func:`ensure_started`.
    """
    log.info("Starting the gateway of the Ray cluster by a job at %s", dashboard.url)
    token_sum, port = sum_of(require_token(settings)), settings.port or PORT
    options = ["--namespace", settings.namespace, "--port", str(port), "--token-sha256", token_sum]
    # Not each machine that has Python calls it so.
    command = f"$(command -v python || command -v python3) {BUNDLE_NAME} start {shlex.join(options)}"
    wanted = hashlib.sha256(f"{own_build()}{command}".encode()).hexdigest()[:12]
    name = f"airflow-ray-gateway-{wanted}-{int(time.time()) // SHARED_SECONDS}"
    output = dashboard.run(name, command, dashboard.upload(package_with_bundle()))
    answer = answer_in(output)
    if answer is None:
        lines = "\n".join(output.splitlines()[-LAST_LINES:])
        raise RayConnectionError(f"The job {name} at {dashboard.url} ended without a gateway. It says:\n{lines}")
    return _note_in(answer, dashboard.url)


def start_through_ray_client(settings: RaySettings, deadline: float) -> dict[str, Any]:
    """Do the same over Ray Client, for which this process needs Ray, of the cluster's version.

    :raises RayConnectionError: as :func:`ensure_started`.
    """
    from airflow_ray.client.by_value import pickle_by_value
    from airflow_ray.client.connection import as_client
    from airflow_ray.cluster.gateway.files import GatewayError
    from airflow_ray.cluster.gateway.starting import start

    left = max(1.0, deadline - time.monotonic())
    of_client = {"mode": "client", "port": None, "connect_timeout": left}
    by_value = partial(pickle_by_value, [airflow_ray.cluster])
    sums, port = [sum_of(require_token(settings))], settings.port or PORT
    everywhere = "0.0.0.0"
    with ExitStack() as stack:
        try:
            session = stack.enter_context(as_client.open_session(settings.model_copy(update=of_client)))
        except RayVersionMismatchError as error:
            raise RayVersionMismatchError(
                f"No gateway answers at {settings.host}:{port}, and Ray Client, the only way from here to start one, "
                "needs the cluster's release of Ray in this process. Open the port of the dashboard to the machines of "
                f"Airflow, or {WITH_CLUSTER}. {error}"
            ) from error
        log.info("Starting the gateway of the Ray cluster over Ray Client")
        left = max(1.0, deadline - time.monotonic())
        try:
            return session.run(
                lambda: start(settings.namespace, own_build(), by_value, sums, host=everywhere, port=port), left
            )
        except TimeoutError:
            raise RayConnectionError("The gateway of the Ray cluster did not start in time") from None
        except GatewayError as error:
            return _note_in(error.answer, f"{settings.host}:{CLIENT_PORT}")


def _start(settings: RaySettings, deadline: float) -> tuple[dict[str, Any], str | None]:
    """Start it in the first way that is open, and return its note, and the dashboard through which that was."""
    host = _host_of(settings)
    named = f"[{host}]" if ":" in host else host
    urls = [url for url in (settings.dashboard_url, f"http://{named}:{DASHBOARD_PORT}") if url]
    problems = []
    for url in urls:
        with Dashboard(url, settings, deadline) as dashboard:
            try:
                dashboard.check()
            except RayConnectionError as error:
                problems.append(error)
            else:
                return start_through_job(dashboard, settings), url
    if find_spec("ray") is not None and _answers(host, CLIENT_PORT):
        return start_through_ray_client(settings, deadline), None
    without_ray = "" if find_spec("ray") else ", for which ray would have to be installed here"
    kind = next((type(each) for each in problems if isinstance(each, RayAuthenticationError)), RayConnectionError)
    raise kind(
        f"No gateway answers at {named}:{settings.port or PORT}, and it cannot be started from here. "
        f"{' '.join(f'{each}.' for each in problems)} No Ray Client server answers at {named}:{CLIENT_PORT}"
        f"{without_ray}. Open one of these ports from the machines of Airflow, or {WITH_CLUSTER}"
    )


def _require_head(settings: RaySettings, dashboard_url: str | None) -> None:
    """Make sure that what the gateway was started through still answers.

    :raises RayConnectionError: it does not: the head or the network has gone, and the gateway's port may be open.
    """
    place = dashboard_url or f"{settings.host}:{CLIENT_PORT}"
    try:
        if dashboard_url is not None:
            with Dashboard(dashboard_url, settings, time.monotonic()) as dashboard:
                dashboard.check()
        elif not _answers(_host_of(settings), CLIENT_PORT):
            raise RayConnectionError(f"No Ray Client server answers at {place}")
    except RayConnectionError as error:
        raise RayConnectionError(
            f"The gateway of the Ray cluster was started through {place}, and now neither of them answers. {error}."
        ) from error


def _note_in(answer: dict[str, Any], where: str) -> dict[str, Any]:
    """Return where the gateway is, as the head has answered to whoever asked for it.

    :param where: what was asked, for the text.
    :raises RayConnectionError: it could not be started.
    """
    # From here another port may lead to that on which it runs, such as that of a load balancer.
    if "error" not in answer or answer.get("port"):
        return answer
    kind = RayVersionMismatchError if answer.get("is_of_versions") else RayConnectionError
    raise kind(f"The gateway of the Ray cluster at {where} could not be started: {answer['error']}")


def _host_of(settings: RaySettings) -> str:
    if not settings.host:
        raise RayConfigurationError(f"Connection {settings.conn_id!r}: host is missing, which mode gateway needs")
    return settings.host


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _memory_of(settings: RaySettings) -> Path:
    """Return the file that tells of a gateway that could not be reached."""
    # Of clusters that come and go, the next one may get the address of one before.
    cluster = "" if settings.cluster.is_shared else str(settings.cluster)
    place = hashlib.sha256(f"{settings.host}:{settings.port or PORT}{cluster}".encode()).hexdigest()[:12]
    return state_folder() / f"unreachable-{place}"


def _unreachable(settings: RaySettings, note: dict[str, Any]) -> RayGatewayUnreachableError:
    port, memory = settings.port or PORT, _memory_of(settings)
    text = (
        f"The gateway of the Ray cluster runs and listens on port {note['port']} of the head, and nothing answers at "
        f"{settings.host}:{port} from here ({socket.gethostname()}). Open TCP port {port} from the machines of "
        f"Airflow to {settings.host}: in firewalls and network policies, and in the service of the head on Kubernetes"
    )
    if note["port"] != port:
        text += (
            f". Where no node port or load balancer leads from there to port {note['port']} of the head, set that as "
            "the port of the connection instead"
        )
    with open(open_own(memory, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
        file.write(text)
    return RayGatewayUnreachableError(text)


def _raise_if_remembered(settings: RaySettings) -> None:
    memory = _memory_of(settings)
    with suppress(FileNotFoundError), open(open_own(memory, os.O_RDONLY)) as file:
        age = time.time() - os.fstat(file.fileno()).st_mtime
        if 0 <= age < REMEMBERED_SECONDS:
            raise RayGatewayUnreachableError(
                f"{file.read()}. That was so {age:.0f} seconds ago; it is started again from this machine after "
                f"{REMEMBERED_SECONDS:.0f}, or when {memory} is removed"
            )
