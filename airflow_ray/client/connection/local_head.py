"""The way in to the one embedded Ray head of this machine and user, started when it is first needed.

``python -m airflow_ray.hooks.local_head stop`` stops it, ``status`` tells where it is.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from airflow_ray._compat import conf
from airflow_ray.client.connection import as_driver
from airflow_ray.client.connection.authentication import Authentication
from airflow_ray.client.connection.head_process import (
    LocalHead,
    is_own_folder,
    is_ready,
    log_of,
    noted_head,
    open_own,
    start_head,
)
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.as_driver import DriverSession
    from airflow_ray.client.connection.settings import RaySettings


STOP_SECONDS = 20.0


POLL_SECONDS = 0.05


@contextmanager
def open_session(settings: RaySettings) -> Iterator[DriverSession]:
    """Start the head if none runs, and join it as a driver.

    :raises RayConnectionError: it did not come to that in time; the text says why.
    """
    deadline = time.monotonic() + settings.connect_timeout
    head = ensure(settings.connect_timeout)
    left = max(1.0, deadline - time.monotonic())
    with as_driver.join(head.address, Authentication(token()), settings.namespace, left) as session:
        yield session


def state_folder() -> Path:
    """Return the folder of the head's address, token, lock and log; only this user can read it.

    It is ``[airflow_ray] local_head_dir``, by default a folder for this user in the system's
    temporary folder.

    :raises RayConnectionError: it is no folder of this user's, or only a link to one.
    """
    default = Path(tempfile.gettempdir(), f"airflow-ray-{os.getuid()}")
    folder = Path(conf.get("airflow_ray", "local_head_dir", fallback=None) or default)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    # In a folder where all may write, nobody else can replace what belongs to this user from here on.
    if not is_own_folder(folder):
        raise RayConnectionError(
            f"{folder} is a link, no folder, or belongs to another user: set [airflow_ray] local_head_dir to a folder "
            "of your own"
        )
    folder.chmod(0o700)
    return folder


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
