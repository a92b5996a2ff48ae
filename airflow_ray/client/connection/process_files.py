"""Folders for the secret files of this process, which go when it ends; those of processes that were killed go too."""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from airflow_ray.client.connection.head_process import is_own_folder, start_time

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "airflow-ray-files-"


@contextmanager
def folder_of_process() -> Iterator[Path]:
    """Make a folder that only this user can enter, and remove it in the end, which may be that of this process."""
    remove_those_of_dead_processes()
    own = os.getpid()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{_pid_namespace()}-{own}-{start_time(own)}-"))

    def remove() -> None:
        # A child that was forked meanwhile inherits what is registered.
        if os.getpid() == own:
            rmtree(folder, ignore_errors=True)

    # Not by a finalizer: Airflow forks its task processes and drops what was registered before, where finalizers are
    # registered once for all.
    atexit.register(remove)
    try:
        yield folder
    finally:
        atexit.unregister(remove)
        remove()


def remove_those_of_dead_processes() -> None:
    """Remove what processes of this user have left that were killed."""
    name = re.compile(rf"{PREFIX}{_pid_namespace()}-(\d+)-(\d+)-\w+")
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        found = name.fullmatch(folder.name)
        if found and start_time(int(found[1])) != found[2] and is_own_folder(folder):
            rmtree(folder, ignore_errors=True)


def _pid_namespace() -> int:
    """Return what tells process ids of this container from those of another one with the same temporary folder."""
    return os.stat("/proc/self/ns/pid").st_ino
