"""A folder of files on S3, Google Cloud Storage or a disk, and what can go wrong with one."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.checkpoints import disk
from airflow_ray.cluster.checkpoints.s3 import open_s3
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# pyarrow sends files below 10 MB in one request, or in one part: from release 21 on there is no multipart upload that a
# crash could leave behind.
MAX_FILE_BYTES = 8 * 1024 * 1024
GCS_RETRY_SECONDS = 30.0

_AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
_MISSING = frozenset({"NO_SUCH_KEY", "RESOURCE_NOT_FOUND"})
_NO_ACCESS = frozenset(
    {
        "ACCESS_DENIED",
        "EXPIRED_TOKEN",
        "INVALID_ACCESS_KEY_ID",
        "INVALID_CLIENT_TOKEN_ID",
        "INVALID_SIGNATURE",
        "MISSING_AUTHENTICATION_TOKEN",
        "NO_SUCH_BUCKET",
        "SIGNATURE_DOES_NOT_MATCH",
        "UNRECOGNIZED_CLIENT",
    }
)
_NO_ACCESS_STATUS = frozenset({"301", "307", "400", "401", "403"})
# As pyarrow calls what it knows, and as S3 does.
_EXPIRED = re.compile("EXPIRED_TOKEN|ExpiredToken")
# Of a file that was uploaded in one part, that of the MD5 of the part.
_MD5 = re.compile(r"[0-9a-f]{32}(-1)?")
_CHECKSUMS_STORED = (
    "A server that does not know checksums behind the content stores them as a part of it: set "
    '"config_kwargs": {"request_checksum_calculation": "when_required"} in the extra of the AWS connection'
)


class StoredFile(NamedTuple):
    """A file of a :class:`Storage`: name under its path, size in bytes, time of change in seconds since 1970."""

    name: str
    bytes: int
    changed_at: float


class Storage:
    """The files under one path, by names with ``/`` between folders.

    :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.
    :param options: for S3 those of :func:`~airflow_ray.cluster.checkpoints.s3.open_s3`, else arguments of
        :class:`pyarrow.fs.GcsFileSystem`, credentials among them. Without credentials those of this machine are used.
    :raises CheckpointFailure: the file system cannot be set up.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.settings = {"path": path, "options": options}
        self.path = path
        self._scheme, self._root = scheme_and_root(path)
        # Text of the credentials, which no message may hold.
        self._secrets = [options[name] for name in ("secret_key", "session_token") if options.get(name)]
        self._tags_are_md5 = True
        with self._translated(path):
            self._filesystem = _filesystem(self._scheme, self._root, options)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a file of a name that nobody else uses, as a whole; only on a disk can a crash leave a part of it.

        :raises CheckpointFailure: it could not be written, or is not stored as it was written.
        """
        self._write(name, data)
        if problem := self.problem_with(name, data):
            raise CheckpointFailure(FailureKind.CHECKPOINT_STORAGE, self.where(name), problem)

    def problem_with(self, name: str, data: bytes | memoryview) -> str | None:
        """Return in what a file differs that was written with ``data`` just now, or None.

        That takes one request, which tells the size and, of most servers, the MD5; where the tag of a file is none, as
        of one that is encrypted, the first such file is read. A disk is believed.
        """
        if self._scheme == "file":
            return None
        with self._translated(name):
            try:
                with self._filesystem.open_input_file(self._full(name)) as file:
                    if file.size() != len(data):
                        kept = f"the server keeps {file.size()} bytes of it, and {len(data)} were written"
                        return f"{kept}. {_CHECKSUMS_STORED}" if file.size() > len(data) else kept
                    if self._tags_are_md5 and _md5_in(file.metadata()) not in (None, *_md5s_of(data)):
                        if file.read() != data:
                            return f"the server keeps other content of it than was written. {_CHECKSUMS_STORED}"
                        self._tags_are_md5 = False
            except OSError as error:
                if _is_missing(error):
                    return "the server has taken it and does not have it"
                raise
        return None

    def replace(self, name: str, data: bytes) -> None:
        """Write a file so that readers see the earlier one or the whole of this one."""
        if self._scheme != "file":
            self._write(name, data)
            return
        new = f"{name}.{os.urandom(8).hex()}"
        self._write(new, data)
        with self._translated(name):
            self._filesystem.move(self._full(new), self._full(name))

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file, or None where there is none.

        :param limit: bytes that it has at most. Of a larger one nothing is read: anybody may have put it there.
        :raises CheckpointFailure: it is larger, or the storage fails.

        For S3, pyarrow asks for the size in one request and for that many bytes in another. Of a file that is replaced
        in between this returns the beginning of the new one, or all of it and arbitrary bytes after it: who reads what
        may be replaced must be able to tell, and read again.
        """
        with self._translated(name):
            try:
                content, size = self._read(self._full(name), limit)
            except OSError as error:
                if _is_missing(error):
                    return None
                raise
        if content is None:
            raise CheckpointFailure(
                FailureKind.CHECKPOINT_CORRUPT,
                self.where(name),
                f"the file has {size} bytes, where at most {limit} are expected: nothing of it was read",
            )
        return content

    def _read(self, path: str, limit: int) -> tuple[bytes | None, int]:
        if self._scheme == "file":
            return disk.read(path, limit)
        with self._filesystem.open_input_file(path) as file:
            size: int = file.size()
            return (file.read(size) if size <= limit else None), size

    def files(self, folder: str = "", depth: int = 0) -> Iterator[StoredFile]:
        """Yield the files in ``folder``, on a disk those only that no symbolic link under the path leads to.

        :param depth: of folders in it that are looked into.
        """
        with self._translated(folder):
            # All at once: whoever asks may delete some of them meanwhile.
            found = list(self._files_of_disk(folder, depth) if self._scheme == "file" else self._files(folder, depth))
        yield from found

    def _files_of_disk(self, folder: str, depth: int) -> Iterator[StoredFile]:
        for name, status in disk.files(self._root, folder, depth):
            yield StoredFile(name, status.st_size, status.st_mtime)

    def _files(self, folder: str, depth: int) -> Iterator[StoredFile]:
        from pyarrow import fs

        selector = fs.FileSelector(self._full(folder), recursive=depth > 0, allow_not_found=True)
        for info in self._filesystem.get_file_info(selector):
            is_near = info.path.removeprefix(selector.base_dir).count("/") <= depth + 1
            if info.type == fs.FileType.File and is_near:
                yield StoredFile(info.path[len(self._root) + 1 :], info.size, info.mtime_ns / 1e9)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are gone already count as deleted, and so do those behind a symbolic link."""
        for name in names:
            with self._translated(name), suppress(FileNotFoundError):
                if self._scheme == "file":
                    disk.delete(self._root, name)
                else:
                    self._filesystem.delete_file(self._full(name))

    def where(self, name: str) -> str:
        """Return the whole path of a file."""
        return f"{self.path.rstrip('/')}/{name}".rstrip("/")

    def _write(self, name: str, data: bytes | memoryview) -> None:
        with self._translated(name):
            if self._scheme == "file":
                self._filesystem.create_dir(posixpath.dirname(self._full(name)), recursive=True)
            with self._filesystem.open_output_stream(self._full(name)) as stream:
                stream.write(data)

    def _full(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as raised:
            error = self._refusal_in_words() or raised if _is_wordless(raised) else raised
            message = str(error)
            for secret in self._secrets:
                message = message.replace(secret, "***")
            kind = FailureKind.CHECKPOINT_ACCESS if _is_refusal(error) else FailureKind.CHECKPOINT_STORAGE
            raise CheckpointFailure(kind, self.where(name) if name != self.path else name, message) from error

    def _refusal_in_words(self) -> OSError | None:
        """Return with what a request is refused whose answer has a body, or None where that is another refusal."""
        try:
            list(self._files("", 0))
        except OSError as error:
            return error if _aws_status(error) == "400" else None
        return None


def may_pass(raised: CheckpointFailure, path: str) -> bool:
    """Whether the storage at ``path`` may do later what it has failed to do, with nothing changed by anybody.

    One behind a network may be started anew, or not be reached for a while. What a server keeps in another way than it
    was sent stays like that.
    """
    is_near = path.startswith("file:")
    is_of_storage = raised.error["kind"] == FailureKind.CHECKPOINT_STORAGE and isinstance(raised.__cause__, OSError)
    return is_of_storage and not is_near


def has_expired(raised: CheckpointFailure) -> bool:
    """Whether the storage no longer takes credentials that it took before."""
    return bool(_EXPIRED.search(str(raised.__cause__)))


def open_filesystem(settings: dict[str, Any]) -> Any:
    """Return the file system of pyarrow's for a :class:`Storage` of these arguments."""
    return _filesystem(*scheme_and_root(settings["path"]), settings["options"])


def scheme_and_root(path: str) -> tuple[str, str]:
    """Return how a path like that of a :class:`Storage` begins, and where its folder is in the file system."""
    scheme, _, rest = path.partition("://")
    return scheme, rest.rstrip("/") if scheme != "file" else f"/{rest.strip('/')}"


def _md5s_of(data: bytes | memoryview) -> tuple[str, str]:
    """Return the tag of a file that was uploaded in one request, and of one that was in one part."""
    whole = hashlib.md5(data, usedforsecurity=False)
    return whole.hexdigest(), f"{hashlib.md5(whole.digest(), usedforsecurity=False).hexdigest()}-1"


def _md5_in(metadata: dict[str, bytes]) -> str | None:
    """Return what looks like the MD5 of a file in what its server tells of it."""
    tag = metadata.get("ETag", b"").decode(errors="replace").strip('"')
    return tag if _MD5.fullmatch(tag) else None


def _is_missing(error: OSError) -> bool:
    """Whether there is no such file, or no longer: it can go between the two requests for it."""
    found = _AWS_ERROR.search(str(error))
    return isinstance(error, FileNotFoundError) or (found is not None and found[1] in _MISSING)


def _is_wordless(error: OSError) -> bool:
    """Whether S3 has refused a HEAD, to which it does not answer why: such as that a token has expired."""
    return _aws_status(error) == "400" and "during HeadObject" in str(error)


def _aws_status(error: OSError) -> str | None:
    found = _AWS_ERROR.search(str(error))
    return None if found is None else found[2]


def _is_refusal(error: OSError) -> bool:
    """Whether trying again is of no use until somebody changes a permission, a bucket or a connection."""
    if isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)):
        return True
    found = _AWS_ERROR.search(str(error))
    return found is not None and (found[1] in _NO_ACCESS or found[2] in _NO_ACCESS_STATUS)


def _filesystem(scheme: str, root: str, options: dict[str, Any]) -> Any:
    from pyarrow import fs

    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme == "gs":
        return fs.GcsFileSystem(**options, retry_time_limit=timedelta(seconds=GCS_RETRY_SECONDS))
    return open_s3(root, options)
