"""Streams that are read from several files."""

from __future__ import annotations

import hashlib
import threading
from typing import Any, cast

from airflow_ray.cluster.checkpoints.parts import FILES_AHEAD, PartReader
from airflow_ray.cluster.checkpoints.storage import Storage

WAIT_SECONDS = 30.0


class Files:
    """A storage with files of one byte, which waits until it is asked for so many of them."""

    def __init__(self, number: int) -> None:
        self.contents = {f"folder/{each}": bytes([each]) for each in range(number)}
        self.all_were_asked_for = threading.Event()
        self._asked_for = 0
        self._lock = threading.Lock()

    def listed(self) -> list[dict[str, Any]]:
        return [
            {"name": name.partition("/")[2], "bytes": len(each), "sha256": hashlib.sha256(each).hexdigest()}
            for name, each in self.contents.items()
        ]

    def read(self, name: str, limit: int) -> bytes:
        with self._lock:
            self._asked_for += 1
            if self._asked_for == len(self.contents):
                self.all_were_asked_for.set()
        return self.contents[name]

    def where(self, name: str) -> str:
        return name


def reader_of(files: Files) -> PartReader:
    return PartReader(cast("Storage", files), "folder", files.listed())


def test_files_are_on_their_way_before_the_first_is_asked_for():
    files = Files(FILES_AHEAD)
    with reader_of(files):
        assert files.all_were_asked_for.wait(WAIT_SECONDS)


def test_next_files_are_on_their_way_while_one_is_used():
    files = Files(FILES_AHEAD + 1)
    with reader_of(files) as reader:
        assert reader.read(1) == b"\0"
        assert files.all_were_asked_for.wait(WAIT_SECONDS)


def test_files_read_ahead_come_in_their_order():
    files = Files(3 * FILES_AHEAD)
    with reader_of(files) as reader:
        assert reader.read() == bytes(range(3 * FILES_AHEAD))
