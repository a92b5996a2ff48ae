"""A value as numbered pieces of bytes, and the way back, without a further copy of its data as a whole."""

from __future__ import annotations

import io
import mmap
import pickle
import sys
from bisect import bisect_right
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# From 4 MiB on Ray Client takes half as much time again for each byte, and from 5 MiB on it cuts messages up itself.
PIECE_BYTES = 5 * 512 * 1024


BATCH_PIECES = 3


BATCH_BYTES = PIECE_BYTES * BATCH_PIECES


# What is smaller stays inside the pickle.
MIN_BUFFER_BYTES = 64 * 1024


CODEC = "zstd"


CODEC_LEVEL = 1


# So much of a piece tells whether all of it is worth the time that compressing takes.
SAMPLE_BYTES = 64 * 1024


WORTHWHILE = 0.8


class Pieces:
    """Buffers one after another, cut into pieces; so many of these are a batch."""

    def __init__(self, buffers: Iterable[Any]) -> None:
        self._views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._ends = list(accumulate(view.nbytes for view in self._views))
        self.bytes = self._ends[-1] if self._ends else 0
        self.batches = -(-self.bytes // BATCH_BYTES)

    def read(self, batch: int) -> Iterator[Any]:
        """Yield the pieces of a batch, each as one buffer."""
        end = min((batch + 1) * BATCH_BYTES, self.bytes)
        for start in range(batch * BATCH_BYTES, end, PIECE_BYTES):
            parts = list(self._parts(start, min(start + PIECE_BYTES, end)))
            yield parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, batch: int, number: int, piece: Any) -> None:
        """Copy a piece of a batch to where it belongs."""
        start = batch * BATCH_BYTES + number * PIECE_BYTES
        left = memoryview(piece).cast("B")
        for part in self._parts(start, start + len(left)):
            part[:] = left[: len(part)]
            left = left[len(part) :]

    def _parts(self, start: int, end: int) -> Iterator[memoryview]:
        index = bisect_right(self._ends, start)
        while start < end:
            view = self._views[index]
            begin = self._ends[index] - len(view)
            yield view[start - begin : end - begin]
            start, index = self._ends[index], index + 1


def compressed(piece: Any) -> tuple[int, bytes] | None:
    """Return the bytes of a piece and what it is compressed to, or None where it stays nearly as large."""
    import pyarrow as pa

    codec = pa.Codec(CODEC, compression_level=CODEC_LEVEL)
    sample = piece[:SAMPLE_BYTES]
    if codec.compress(sample).size > WORTHWHILE * len(sample):
        return None
    return len(piece), codec.compress(piece, asbytes=True)


def original(piece: Any) -> Any:
    """Return the buffer of a piece that was sent as it is or as :func:`compressed` returned it."""
    if not isinstance(piece, tuple):
        return piece
    import pyarrow as pa

    return pa.decompress(piece[1], piece[0], CODEC)


class Departing:
    """A value that is sent: its pickle in chunks, and the buffers that stay outside.

    :raises Exception: whatever a class raises that cannot be pickled.

    ``sizes`` has the bytes of the pickle and of each buffer; it is what :class:`Arriving` takes. ``has_objects`` tells
    that Ray objects are inside, which Ray alone can send; then there is nothing else.
    """

    def __init__(self, value: Any) -> None:
        chunks, buffers = _Chunks(), []

        def is_inside(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= MIN_BUFFER_BYTES:
                buffers.append(raw)
            return raw.nbytes < MIN_BUFFER_BYTES

        self.has_objects = False
        try:
            _pickler(chunks, is_inside).dump(value)
        except _HasObjects:
            self.has_objects = True
            chunks.clear()
        self.sizes = [sum(map(len, chunks)), *(buffer.nbytes for buffer in buffers)]
        self.pieces = Pieces([*chunks, *buffers])


class Arriving:
    """A value that is received: write its ``pieces``, and then take the value.

    :param sizes: those of its :class:`Departing`.
    """

    def __init__(self, sizes: list[int]) -> None:
        pickled, *buffers = sizes
        self._chunks = deque(_room(min(PIECE_BYTES, pickled - start)) for start in range(0, pickled, PIECE_BYTES))
        self._buffers = [*map(_room, buffers)]
        self.pieces = Pieces([*self._chunks, *self._buffers])

    def value(self) -> Any:
        """Return the value, once; what has been unpickled of the pickle is dropped at once.

        :raises Exception: whatever a pickle raises that was made with other packages.
        """
        self.pieces = Pieces([])
        file = io.BufferedReader(_Reader(self._chunks), PIECE_BYTES)
        return pickle.load(file, buffers=self._buffers)


class _HasObjects(Exception):
    """Ends the pickling of a value with Ray objects inside."""


class _Chunks(list[bytes]):
    """A file to write to that never moves what it has."""

    def write(self, data: Any) -> int:
        self.append(data if isinstance(data, bytes) else bytes(data))
        return len(data)


class _Reader(io.RawIOBase):
    """A file that consists of chunks, and drops each when it has been read."""

    def __init__(self, chunks: deque[Any]) -> None:
        super().__init__()
        self._chunks = chunks
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunk and self._chunks:
            self._chunk = memoryview(self._chunks.popleft())
        size = min(len(buffer), len(self._chunk))
        buffer[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size


def _room(size: int) -> Any:
    """Return a buffer to write to; a large one takes no memory before it is written to."""
    if size < MIN_BUFFER_BYTES:
        return bytearray(size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _pickler(file: Any, is_inside: Any) -> Any:
    from ray import ObjectRef, cloudpickle
    from ray.actor import ActorHandle

    # What stands for actors, functions and classes of the cluster in a process that is a Ray Client.
    client = sys.modules.get("ray.util.client.common")
    of_ray = (ObjectRef, ActorHandle, *([client.ClientStub] if client else []))

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # ray's cloudpickle has no types
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, of_ray):
                raise _HasObjects
            return super().reducer_override(part)

    return Pickler(file, protocol=5, buffer_callback=is_inside)
