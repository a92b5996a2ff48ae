"""The process of the embedded head: how it is started, and how others find it.

As a script, this file is that process itself before it becomes ``ray start``: it first writes down who it is, while it
holds the lock of whoever starts it. So there is no head that nobody knows, whenever that one is killed. A script
imports the standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

READY = b"now block forever"

# Where the head's own ports are chosen: below 32768, from where on Linux gives them to any process that connects
# somewhere, which would take one before Ray binds it, and above what Ray gives to the servers of its clients.
PORTS = range(24_000, 32_768)


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


def noted_head(folder: Path) -> LocalHead | None:
    """Return the head that was written down last, which may have ended or not be ready.

    :param folder: where it is written down.
    """
    with suppress(FileNotFoundError, ValueError, TypeError):
        return LocalHead(**json.loads((folder / "head.json").read_text()))
    return None


def log_of(folder: Path) -> Path:
    """Return the file that the head of a folder writes to while it starts."""
    return folder / "head.log"


def is_ready(folder: Path) -> bool:
    """Return whether the head that was written down last has come to take connections."""
    return READY in log_of(folder).read_bytes()


def start_head(folder: Path, token_path: Path, lock: int) -> LocalHead:
    """Start a head and return it, before it is ready.

    :param folder: where it is written down.
    :param token_path: the file with the token that it asks for.
    :param lock: file descriptor of a lock that is let go once it is written down, also if this process is killed.
    """
    # Ray's sockets lie in this folder and their paths may not be longer than 107 bytes.
    temp_dir = tempfile.mkdtemp(prefix="airflow-ray-")
    gcs_port, client_port = free_ports(2)
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
        "RAY_AUTH_TOKEN_PATH": str(token_path),
    }
    place = f"127.0.0.1:{gcs_port}", client_port, temp_dir
    with log_of(folder).open("wb") as output:
        process = subprocess.Popen(
            # Isolated: nothing in the folder of this file must be taken for a module of the standard library.
            [sys.executable, "-I", __file__, str(folder), str(lock), json.dumps(place), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock],
            cwd="/",
        )
    return LocalHead(process.pid, _start_time(process.pid), *place)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on, chosen at random.

    :raises OSError: all are taken.
    """
    with ExitStack() as stack:
        return [_bind(stack.enter_context(socket.socket())) for _ in range(count)]


def _bind(unbound: socket.socket) -> int:
    for port in random.sample(PORTS, len(PORTS)):
        with suppress(OSError):
            unbound.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, f"All ports from {PORTS[0]} to {PORTS[-1]} are taken")


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _become(folder: str, lock: str, place: str, *command: str) -> None:
    """Write down this process, let go of the lock, and run a command in its place."""
    head = LocalHead(os.getpid(), _start_time(os.getpid()), *json.loads(place))
    note = Path(folder, "head.json.new")
    note.write_text(json.dumps(asdict(head)))
    note.replace(Path(folder, "head.json"))
    os.close(int(lock))
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(*sys.argv[1:])
