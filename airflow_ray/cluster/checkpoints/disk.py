"""Files of a disk where others may write too: none is found or deleted through a symbolic link, and no pipe is read.

Each folder is opened inside the one around it, since a link may take the place of a folder at any time.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without it, to open a pipe waits for whoever writes into it.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# What systems say of a link that is not followed.
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)


def files(root: str, folder: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path under ``root`` and the status of each file that lies in ``folder``, or deeper.

    :param root: may be a link itself; no part of ``folder`` may.
    :param depth: of folders in it that are looked into.
    """
    # What is not there holds no file, and is no error; nor is what goes meanwhile.
    with suppress(FileNotFoundError), _opened(root, folder) as descriptor:
        yield from _files_in(descriptor, folder, depth)


def delete(root: str, name: str) -> None:
    """Delete a file; one that is gone already counts as deleted."""
    folder, _, base = name.rpartition("/")
    with suppress(FileNotFoundError), _opened(root, folder) as descriptor:
        os.unlink(base, dir_fd=descriptor)


def read(path: str, limit: int) -> tuple[bytes | None, int]:
    """Return the content of a file and its size in bytes; of one that has more than ``limit``, the size only.

    :raises OSError: it is no file, or cannot be read.
    """
    with open(os.open(path, _FILE), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if status.st_size > limit:
            return None, status.st_size
        content = file.read(limit)
        return content, len(content)


def _files_in(descriptor: int, folder: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(descriptor) as entries:
        for entry in entries:
            path = posixpath.join(folder, entry.name)
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    yield path, entry.stat(follow_symlinks=False)
                elif depth and entry.is_dir(follow_symlinks=False):
                    with _opened_in(descriptor, entry.name) as inner:
                        yield from _files_in(inner, path, depth - 1)


@contextmanager
def _opened(root: str, folder: str) -> Iterator[int]:
    """Open a folder under ``root``, part by part."""
    descriptor = os.open(root, _FOLDER)
    try:
        for part in filter(None, folder.split("/")):
            with _opened_in(descriptor, part) as inner:
                os.dup2(inner, descriptor, inheritable=False)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_in(descriptor: int, name: str) -> Iterator[int]:
    try:
        inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        raise FileNotFoundError(error.errno, "it is a link, or no folder", name) from error
    try:
        yield inner
    finally:
        os.close(inner)
