"""Streams of any length as files of limited size, each checked by its SHA-256 before it is used."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from airflow_ray.cluster.checkpoints.storage import MAX_FILE_BYTES, Storage
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind

# Each file on its way takes its own size twice, here and in pyarrow: this bounds the extra memory at 64 MB.
FILES_IN_FLIGHT = 3
# A file that is read takes its size once. Those that wait keep the others on their way while one is being used.
FILES_AHEAD = 6


class PartWriter(io.RawIOBase):
    """Writes what it is given to files ``<name>.00000``, ``<name>.00001``, … in the background.

    :param name: where in ``storage`` the files go.

    ``files`` lists them as plain data after :meth:`close`: name, bytes, sha256.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        super().__init__()
        self.files: list[dict[str, Any]] = []
        self._storage = storage
        self._name = name
        self._part = bytearray()
        self._count = 0
        self._pool = ThreadPoolExecutor(FILES_IN_FLIGHT, thread_name_prefix="airflow-ray-checkpoint")
        self._pending: deque[Future[dict[str, Any]]] = deque()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take any buffer as a whole; waits while as many files as allowed are on their way."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            room = MAX_FILE_BYTES - len(self._part)
            self._part += view[:room]
            view = view[room:]
            if len(self._part) == MAX_FILE_BYTES:
                self._send()
        return size

    def close(self) -> None:
        """Send the rest and wait until every file is written.

        :raises CheckpointFailure: one could not be.
        """
        if self.closed:
            return
        try:
            if self._part or not self._count:
                self._send()
            while self._pending:
                self._settle()
        finally:
            self._pool.shutdown()
            super().close()

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self.close()
            return
        self._part.clear()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _send(self) -> None:
        if len(self._pending) >= FILES_IN_FLIGHT:
            self._settle()
        name = f"{self._name}.{self._count:05d}"
        part, self._part = self._part, bytearray()
        self._count += 1
        self._pending.append(self._pool.submit(self._put, name, part))

    def _put(self, name: str, part: bytearray) -> dict[str, Any]:
        self._storage.write(name, memoryview(part))
        return {"name": name.rpartition("/")[2], "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}

    def _settle(self) -> None:
        self.files.append(self._pending.popleft().result())


class PartReader(io.RawIOBase):
    """Reads the files that a :class:`PartWriter` wrote as one stream, the next ones ahead of use.

    No byte of a file is given out before the whole of it is found to be what was written: a reader such
    as an unpickler acts on what it reads.

    :param folder: where in ``storage`` the files lie.
    :param files: what the writer listed.
    """

    def __init__(self, storage: Storage, folder: str, files: list[dict[str, Any]]) -> None:
        super().__init__()
        self._storage = storage
        self._folder = folder
        self._waiting = deque(files)
        self._pool = ThreadPoolExecutor(FILES_IN_FLIGHT, thread_name_prefix="airflow-ray-checkpoint")
        self._coming: deque[Future[bytes]] = deque()
        self._part = memoryview(b"")
        self._read_ahead()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the current file goes; 0 is the end."""
        taken = self._take(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def read_buffer(self, size: int) -> memoryview:
        """Return the next bytes, fewer only at the end; without a copy where one file holds them all.

        By this name pyarrow asks for them.
        """
        taken = self._take(size)
        if len(taken) == size or not taken:
            return taken
        pieces = bytearray(taken)
        while len(pieces) < size and (taken := self._take(size - len(pieces))):
            pieces += taken
        return memoryview(pieces)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer only at the end; -1 for all."""
        return self.readall() if size < 0 else bytes(self.read_buffer(size))

    def _take(self, size: int) -> memoryview:
        """Return the next bytes as far as the current file goes; none is the end."""
        if not self._part:
            self._advance()
        taken, self._part = self._part[:size], self._part[size:]
        return taken

    def close(self) -> None:
        """Drop what has been read ahead."""
        if not self.closed:
            self._pool.shutdown(cancel_futures=True)
            super().close()

    def _advance(self) -> None:
        self._part = memoryview(self._coming.popleft().result() if self._coming else b"")
        self._read_ahead()

    def _read_ahead(self) -> None:
        while self._waiting and len(self._coming) < FILES_AHEAD:
            self._coming.append(self._pool.submit(self._get, self._waiting.popleft()))

    def _get(self, file: dict[str, Any]) -> bytes:
        name = f"{self._folder}/{file['name']}"
        content = self._storage.read(name, file["bytes"])
        where = self._storage.where(name)
        if content is None:
            raise CheckpointFailure(FailureKind.CHECKPOINT_CORRUPT, where, "the file is missing")
        if len(content) != file["bytes"]:
            raise CheckpointFailure(
                FailureKind.CHECKPOINT_CORRUPT, where, f"the file has {len(content)} bytes instead of {file['bytes']}"
            )
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise CheckpointFailure(
                FailureKind.CHECKPOINT_CORRUPT, where, "the content of the file has changed since it was written"
            )
        return content
