"""One embedded Ray head for this machine and user, started when it is first needed.

``python -m airflow_ray.hooks.local_head stop`` stops it, ``status`` tells where it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_ray._compat import conf
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator


STOP_SECONDS = 20.0


@dataclass(frozen=True)
class LocalHead:
    """Where the head is.

    :param pid: process id of ``ray start --block``, which ends all processes of the head when it ends.
    :param started: when that process started, in clock ticks since boot: tells it from a later one
        with the same id.
    :param address: of the cluster's control service, for drivers.
    :param client_port: of its Ray Client server, on this machine.
    :param temp_dir: Ray's session folder.
    """

    pid: int
    started: str
    address: str
    client_port: int
    temp_dir: str

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return _start_time(self.pid) == self.started


def state_folder() -> Path:
    """Return the folder of the head's address, token, lock and log; only this user can read it.

    It is ``[airflow_ray] local_head_dir``, by default a folder for this user in the system's
    temporary folder.

    :raises RayConnectionError: the folder belongs to somebody else.
    """
    default = Path(tempfile.gettempdir(), f"airflow-ray-{os.getuid()}")
    folder = Path(conf.get("airflow_ray", "local_head_dir", fallback=None) or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RayConnectionError(
            f"{folder} belongs to another user: set [airflow_ray] local_head_dir to a folder of your own"
        )
    folder.chmod(0o700)
    return folder


def token_path() -> Path:
    """Return the file that holds the token of the head."""
    return state_folder() / "token"


def token() -> str:
    """Return the token of the head."""
    return token_path().read_text()


def running() -> LocalHead | None:
    """Return the head if it runs."""
    head = _written_down()
    return head if head is not None and head.alive else None


def ensure(timeout: float) -> LocalHead:
    """Return the head, which is started if none runs; safe when many processes call it at once.

    :param timeout: seconds until the head must answer.
    :raises RayConnectionError: it did not start; the text says why.
    """
    deadline = time.monotonic() + timeout
    with _locked(deadline):
        return running() or _start(deadline)


def stop() -> bool:
    """Stop the head with all its processes and return whether one ran."""
    with _locked(time.monotonic() + STOP_SECONDS):
        head = running()
        if head is None:
            return False
        os.kill(head.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while head.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        if head.alive:
            os.killpg(head.pid, signal.SIGKILL)
        _forget(head)
        return True


@contextmanager
def _locked(deadline: float) -> Iterator[None]:
    with open(state_folder() / "lock", "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RayConnectionError(
                        f"Another process holds {lock.name} and has not started or stopped the local Ray head in time"
                    ) from None
                time.sleep(0.05)
        yield


def _written_down() -> LocalHead | None:
    with suppress(FileNotFoundError, ValueError, TypeError):
        return LocalHead(**json.loads((state_folder() / "head.json").read_text()))
    return None


def _forget(head: LocalHead) -> None:
    shutil.rmtree(head.temp_dir, ignore_errors=True)
    (state_folder() / "head.json").unlink()


def _start(deadline: float) -> LocalHead:
    if (dead := _written_down()) is not None:
        _forget(dead)
    folder = state_folder()
    token_path().touch(mode=0o600)
    token_path().write_text(secrets.token_hex(32))
    # Ray's sockets lie in this folder and their paths may not be longer than 107 bytes.
    temp_dir = tempfile.mkdtemp(prefix="airflow-ray-")
    gcs_port, client_port = _free_ports(2)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--port={gcs_port}",
        f"--ray-client-server-port={client_port}",
    ]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--include-dashboard=false"]
    command += ["--disable-usage-stats", f"--temp-dir={temp_dir}"]
    environment = {
        # The head outlives the task that starts it, and Airflow bars a task's environment from the database.
        **{name: value for name, value in os.environ.items() if "AIRFLOW_" not in name or name == "AIRFLOW_HOME"},
        # The client proxy forks while gRPC runs: with gRPC's own fork handlers the child crashes at times.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        # The owner is never idle, so waiting for the node to become idle would only delay the stop.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path()),
    }
    log = folder / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    while b"now block forever" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            shutil.rmtree(temp_dir, ignore_errors=True)
            raise RayConnectionError(f"The local Ray head did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
    head = LocalHead(process.pid, _start_time(process.pid), f"127.0.0.1:{gcs_port}", client_port, temp_dir)
    written = folder / "head.json.new"
    written.write_text(json.dumps(asdict(head)))
    written.replace(folder / "head.json")
    return head


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    """Do what the command line says: ``stop`` or ``status``."""
    if sys.argv[1:] == ["stop"]:
        print("stopped" if stop() else "no local Ray head runs")
    else:
        print(running() or "no local Ray head runs")
