"""The files of a gateway, in a folder that only its user can enter, and the process that they tell of."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.gateway.settings import GatewaySettings

# Of a Unix socket's path.
MAX_PATH_BYTES = 107
# The log is cut to its last part when it is longer.
MAX_LOG_BYTES = 4_000_000
KEPT_LOG_BYTES = 500_000
# Cleaners of temporary files wait for days.
FRESH_SECONDS = 3600.0


class GatewayError(RuntimeError):
    """The gateway does not run, for a reason that its text tells.

    :param is_of_versions: whether the head lacks what it needs.
    :param port: on which one runs already, where it was to listen on another one.
    """

    def __init__(self, text: str, is_of_versions: bool = False, port: int | None = None) -> None:
        super().__init__(text)
        self.is_of_versions = is_of_versions
        self.port = port

    @property
    def answer(self) -> dict[str, Any]:
        """What a process is told that asked for the gateway."""
        return {"error": str(self), "is_of_versions": self.is_of_versions, "port": self.port}


@dataclass(frozen=True)
class GatewayProcess:
    """The process that was started last.

    :param pid: its id.
    :param started: when it started, in clock ticks since boot: tells it from a later one with the same id.
    :param release: of the package that it runs.
    :param keeper: the id of the process that started it, without which it ends.
    :param keeper_started: when that one did.
    """

    pid: int
    started: str
    release: str
    keeper: int
    keeper_started: str

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return bool(self.started) and start_time(self.pid) == self.started

    @property
    def kept(self) -> bool:
        """Whether it goes on: whoever started it still runs."""
        return bool(self.keeper_started) and start_time(self.keeper) == self.keeper_started

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, unless it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; an empty text if there is none of this id."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def make_folder(settings: GatewaySettings) -> None:
    """Make the folder, which nobody else can enter.

    :raises GatewayError: it is a link, belongs to somebody else or cannot be made, or its path is too long.
    """
    folder = Path(settings.folder)
    if len(os.fsencode(settings.socket)) > MAX_PATH_BYTES:
        raise GatewayError(
            f"The folder of the gateway has too long a name for a Unix socket in it: {folder}. Name one with --folder "
            f"of {MAX_PATH_BYTES - len(settings.socket.name) - 1} bytes at most"
        )
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        own, above = folder.lstat(), folder.parent.lstat()
        # Whoever owns the folder above could put another one in its place.
        if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.getuid() or above.st_uid not in (0, os.getuid()):
            raise GatewayError(
                f"{folder}, the folder of the gateway, is a link, is not a folder, or it or the one above belongs to "
                "another user. Remove it, or name another one with --folder"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise GatewayError(f"The folder of the gateway cannot be made on the head: {error}") from None


def replace_tokens(settings: GatewaySettings, sums: list[str]) -> None:
    """Let those of these tokens in and nobody else, or whom it let in before if there are none.

    :param sums: SHA-256 of each, in hexadecimal digits.
    :raises GatewayError: nobody could come in.
    """
    if sums:
        _write(settings.tokens, "".join(f"{each}\n" for each in sorted(set(sums))))
    elif settings.host is not None and not (settings.tokens.exists() and settings.tokens.read_text().strip()):
        raise GatewayError(
            "The gateway knows no token, so nobody could come in over the network. Name the SHA-256 of one with "
            "--token-sha256, put the token into the environment variable AIRFLOW_RAY_GATEWAY_TOKEN, or listen on the "
            "Unix socket alone with --socket-only"
        )


def note_process(settings: GatewaySettings, process: GatewayProcess) -> None:
    """Write down the process that was started."""
    _write(_process_file(settings), json.dumps(asdict(process)))


def noted_process(settings: GatewaySettings) -> GatewayProcess | None:
    """Return the process that was written down last, if it still runs."""
    with suppress(OSError, ValueError, TypeError):
        process = GatewayProcess(**json.loads(_process_file(settings).read_text()))
        return process if process.alive else None
    return None


def note_of(settings: GatewaySettings, process: GatewayProcess | None) -> dict[str, Any] | None:
    """Return what a process has written once it takes connections, or None before and after that."""
    with suppress(OSError, ValueError):
        note: dict[str, Any] = json.loads(settings.note.read_text())
        if process is not None and note.get("pid") == process.pid and process.alive:
            return {**note, "folder": settings.folder, "socket": str(settings.socket)}
    return None


def forget(settings: GatewaySettings) -> None:
    """Remove what a process has left that has ended."""
    for path in (settings.note, settings.socket, _process_file(settings)):
        path.unlink(missing_ok=True)


def ask_to_stop(settings: GatewaySettings) -> bool:
    """End the gateway, so that none of those who keep it starts another one; return whether one ran."""
    if not Path(settings.folder).is_dir():
        return False
    _write(_stop_file(settings), "")
    process = noted_process(settings)
    if process is not None:
        process.signal()
    return process is not None


def is_stopped(settings: GatewaySettings) -> bool:
    """Return whether somebody has ended it who wants none."""
    return _stop_file(settings).exists()


def want_again(settings: GatewaySettings) -> None:
    """Take back what :func:`ask_to_stop` has asked for."""
    _stop_file(settings).unlink(missing_ok=True)


@contextmanager
def locked(settings: GatewaySettings) -> Iterator[bool]:
    """Hold the lock of whoever keeps the gateway of this head, if nobody else does; tell whether that is so."""
    descriptor = os.open(settings.lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def open_log(settings: GatewaySettings) -> int:
    """Return the file descriptor of a new log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(settings.log, flags, 0o600)


def last_lines(settings: GatewaySettings, size: int = 2_000) -> str:
    """Return what was written to the log last."""
    with suppress(OSError):
        return settings.log.read_bytes()[-size:].decode(errors="replace").strip()
    return ""


def keep_fresh(settings: GatewaySettings) -> None:
    """Let no cleaner of temporary files take for old what is used, and written to by nobody; called by who locks it."""
    with suppress(OSError):
        if time.time() - settings.lock.stat().st_mtime > FRESH_SECONDS:
            for path in Path(settings.folder).iterdir():
                os.utime(path, follow_symlinks=False)


def shorten_log(settings: GatewaySettings) -> None:
    """Keep the last part of a log that has become long; it is written to at its end."""
    with suppress(OSError):
        if settings.log.stat().st_size > MAX_LOG_BYTES:
            last = settings.log.read_bytes()[-KEPT_LOG_BYTES:]
            os.truncate(settings.log, 0)
            with settings.log.open("ab") as log:
                log.write(last)


def _process_file(settings: GatewaySettings) -> Path:
    return Path(settings.folder, "process.json")


def _stop_file(settings: GatewaySettings) -> Path:
    return Path(settings.folder, "stopped")


def _write(path: Path, text: str) -> None:
    """Put a file that only this user can read in the place of an earlier one, at once."""
    descriptor, new = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    with open(descriptor, "w") as file:
        file.write(text)
    Path(new).replace(path)
