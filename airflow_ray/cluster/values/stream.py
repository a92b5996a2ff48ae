"""A value as a stream of bytes: first its large buffers one after another, then the pickle that stands around them.

So whoever receives it unpickles while the last part arrives, and each byte is copied once to where it stays.
"""

from __future__ import annotations

import io
import mmap
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 8 * 1024 * 1024
# What is smaller stays inside the pickle.
MIN_BUFFER_BYTES = 64 * 1024
BROKE_OFF = "The value broke off"


class Departing:
    """A value that is sent.

    :param value: what is pickled, at once.
    :param pickler_of: takes a file and a ``buffer_callback``, and returns a pickler of protocol 5 for them.
    :raises Exception: whatever a class raises that cannot be pickled.

    ``sizes`` has the bytes of the pickle and of each buffer; it is what :func:`arrived` takes. ``type_name`` is for
    errors.
    """

    def __init__(self, value: Any, pickler_of: Callable[..., Any]) -> None:
        self.type_name = type(value).__name__
        pickled = _Pickled()
        self._buffers: list[memoryview] = []

        def is_inside(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= MIN_BUFFER_BYTES:
                self._buffers.append(raw)
            return raw.nbytes < MIN_BUFFER_BYTES

        pickler_of(pickled, buffer_callback=is_inside).dump(value)
        self._parts = pickled.parts
        self.sizes = [sum(map(len, self._parts)), *(buffer.nbytes for buffer in self._buffers)]

    def chunks(self) -> Iterator[Any]:
        """Yield the bytes as buffers of :data:`CHUNK_BYTES` at most."""
        for buffer in self._buffers:
            yield from _cut(buffer)
        small = bytearray()
        for part in self._parts:
            if len(small) + len(part) <= CHUNK_BYTES:
                small += part
                continue
            if small:
                yield bytes(small)
                small.clear()
            if len(part) <= CHUNK_BYTES:
                small += part
            else:
                yield from _cut(memoryview(part))
        if small:
            yield bytes(small)


def arrived(sizes: list[int], chunks: Iterator[Any], unpickler_of: Callable[..., Any]) -> Any:
    """Return the value that a :class:`Departing` sends.

    :param sizes: those of it.
    :param chunks: its chunks, cut anywhere.
    :param unpickler_of: takes a file and ``buffers``, and returns an unpickler for them.
    :raises EOFError: the chunks end too early.
    :raises Exception: whatever a pickle raises that was made with other packages.
    """
    stream = _Chunks(chunks)
    buffers = [_filled(stream, size) for size in sizes[1:]]
    try:
        return unpickler_of(io.BufferedReader(stream, MIN_BUFFER_BYTES), buffers=buffers).load()
    except pickle.UnpicklingError as error:
        if stream.count < sum(sizes):
            raise EOFError(BROKE_OFF) from error
        raise


def _cut(buffer: memoryview) -> Iterator[memoryview]:
    for start in range(0, buffer.nbytes, CHUNK_BYTES):
        yield buffer[start : start + CHUNK_BYTES]


def _filled(stream: _Chunks, size: int) -> Any:
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    left = memoryview(room)
    while left:
        count = stream.readinto(left)
        if not count:
            raise EOFError(BROKE_OFF)
        left = left[count:]
    return room


class _Pickled:
    """A file to write to that never moves what it has, and copies no bytes that cannot change."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self.parts.append(data if isinstance(data, bytes) else bytes(data))
        return len(data)


class _Chunks(io.RawIOBase):
    """A file to read from that consists of chunks; ``count`` is how many bytes were read."""

    def __init__(self, chunks: Iterator[Any]) -> None:
        super().__init__()
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._chunk = memoryview(chunk).cast("B")
        size = min(len(room), len(self._chunk))
        room[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        self.count += size
        return size
