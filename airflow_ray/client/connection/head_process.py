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
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

READY = b"now block forever"

TEMP_DIR_PREFIX = "ray-head-"

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
    :param temp_dir: with Ray's session folder; only this user can enter it.
    """

    pid: int
    started: str
    address: str
    client_port: int
    temp_dir: str

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return start_time(self.pid) == self.started

    def remove_files(self) -> None:
        """Remove what the head has left, if it is a folder that :func:`start_head` has made."""
        folder = Path(self.temp_dir)
        is_of_head = folder.name.startswith(TEMP_DIR_PREFIX) and folder.parent == Path(tempfile.gettempdir())
        if is_of_head and is_own_folder(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_own_folder(path: Path) -> bool:
    """Return whether this user owns a folder of that name; a link to one is none."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def open_own(path: Path, flags: int) -> int:
    """Return the file descriptor of a file that only this user can read, and that may be made.

    :raises OSError: it is a link, or belongs to somebody else.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "It belongs to another user", str(path))
    return descriptor


def noted_head(folder: Path) -> LocalHead | None:
    """Return the head that was written down last, which may have ended or not be ready.

    :param folder: where it is written down.
    """
    with (
        suppress(FileNotFoundError, ValueError, TypeError),
        open(open_own(folder / "head.json", os.O_RDONLY)) as note,
    ):
        return LocalHead(**json.load(note))
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
    # Ray opens its session folder to all users. Its sockets lie there, with paths of at most 107 bytes.
    temp_dir = tempfile.mkdtemp(prefix=TEMP_DIR_PREFIX)
    gcs_port, client_port = free_ports(2)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--port={gcs_port}",
        f"--ray-client-server-port={client_port}",
    ]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--include-dashboard=false"]
    command += ["--disable-usage-stats", f"--temp-dir={temp_dir}/r"]
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
    with open(open_own(log_of(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as output:
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
    return LocalHead(process.pid, start_time(process.pid), *place)


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


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; an empty text if there is none of this id."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _become(folder: str, lock: str, place: str, *command: str) -> None:
    """Write down this process, let go of the lock, and run a command in its place."""
    head = LocalHead(os.getpid(), start_time(os.getpid()), *json.loads(place))
    note = Path(folder, "head.json.new")
    note.write_text(json.dumps(asdict(head)))
    note.replace(Path(folder, "head.json"))
    os.close(int(lock))
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(*sys.argv[1:])
