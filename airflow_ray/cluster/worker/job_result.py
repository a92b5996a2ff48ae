"""What a script that ran as a job has left in a file of its node, as the value of a task."""

from __future__ import annotations

import glob
import json
import os
import pickle
import stat
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x80": "pickle"}


def read_job_result(path: str, variable: str) -> Any:
    """Return what the file holds: a pickle, Parquet, an Arrow file or JSON, told apart by their first bytes.

    :param path: of the file.
    :param variable: in which the script finds the path.
    :raises FileNotFoundError: the job has left none.
    :raises PermissionError: it is of another user, or a link.
    :raises ValueError: it is of no such format.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"it has left no file at {path}. Its script must write one where the environment variable {variable} says, "
            "on the node and in the container that the entrypoint runs in"
        ) from None
    except OSError as error:
        raise PermissionError(f"the file {path} is not a file of its own: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        # A pipe that somebody has made first would hold up who reads it.
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"the file {path} is not a regular file")
        if status.st_uid != os.getuid():
            raise PermissionError(f"the file {path} belongs to another user than the one that Ray runs as")
        begin = file.read(6)
        file.seek(0)
        kind = next((kind for sign, kind in _SIGNS.items() if begin.startswith(sign)), "json")
        return _READERS[kind](file, path)


def remove_job_results(path: str) -> None:
    """Remove the files of a task's jobs.

    :param path: what their names begin with.
    """
    for each in glob.glob(f"{glob.escape(path)}*"):
        with suppress(OSError):
            os.unlink(each)


def _json(file: IO[bytes], path: str) -> Any:
    try:
        return json.load(file)
    except ValueError as error:
        raise ValueError(
            f"the file {path} is neither a pickle, nor Parquet, nor an Arrow file, nor JSON: {error}"
        ) from None


def _parquet(file: IO[bytes], _path: str) -> Any:
    import pyarrow.parquet

    return _of_pandas(pyarrow.parquet.read_table(file))


def _arrow(file: IO[bytes], _path: str) -> Any:
    import pyarrow.ipc

    with pyarrow.ipc.open_file(file) as reader:
        return _of_pandas(reader.read_all())


def _of_pandas(table: Any) -> Any:
    """Return the frame of pandas that a table was, if it was one."""
    return table.to_pandas() if b"pandas" in (table.schema.metadata or {}) else table


_READERS: dict[str, Callable[[IO[bytes], str], Any]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "json": _json,
    "pickle": lambda file, _path: pickle.load(file),
}
