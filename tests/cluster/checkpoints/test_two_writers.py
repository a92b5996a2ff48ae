"""A checkpoint that is read while others write one of the same name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.cluster.checkpoints import describe, load, save, stored
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from tools.s3_server import REGION, S3Server

KEYS = ["ab" * 32]
URI = "ray-object://ray/dag/run/task/-1/return_value"
SHORT, LONG = "short", ["a value whose manifest names another length of file"] * 1000


class Interrupted(Storage):
    """Lets ``interrupt`` act before the files are read whose numbers are given: a manifest, or one of its files."""

    def __init__(self, path: str, interrupt: Callable[[], object], *numbers: int) -> None:
        super().__init__(path, {})
        self._interrupt = interrupt
        self._numbers = numbers
        self._count = count(1)

    def read(self, name: str, limit: int) -> bytes | None:
        if next(self._count) in self._numbers:
            self._interrupt()
        return super().read(name, limit)


class Mixed(Storage):
    """Gives a manifest in the size of the one before for the first ``reads`` times, as S3 can."""

    def __init__(self, path: str, size: int, reads: int = 1) -> None:
        super().__init__(path, {})
        self._size = size
        self._reads = reads

    def read(self, name: str, limit: int) -> bytes | None:
        content = super().read(name, limit)
        if content is None or not name.endswith("manifest.json") or not self._reads:
            return content
        self._reads -= 1
        # What pyarrow leaves after the end is whatever was in the memory before.
        return content[: self._size].ljust(self._size + self._reads, b"}")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"file://{tmp_path}"


def saved(path: str, value: Any) -> dict[str, Any]:
    return save(Storage(path, {}), URI, value, KEYS)


def manifest_size(path: str) -> int:
    content = Storage(path, {}).read("ray/dag/run/task/-1/return_value/manifest.json", 1_000_000)
    assert content is not None
    return len(content)


@pytest.mark.parametrize("difference", [-100, 100], ids=["shorter", "longer"])
def test_manifest_in_the_size_of_another_is_read_again(path, difference):
    saved(path, SHORT)
    storage = Mixed(path, manifest_size(path) + difference)
    assert load(storage, URI, KEYS)[0] == SHORT


def test_description_of_a_manifest_in_the_size_of_another_is_read_again(path):
    saved(path, SHORT)
    assert describe(Mixed(path, manifest_size(path) - 100), URI, KEYS)["type"] == "str"


def test_list_does_not_miss_a_checkpoint_whose_manifest_is_replaced(path):
    saved(path, SHORT)
    assert [each["uri"] for each in stored(Mixed(path, manifest_size(path) + 100))] == [URI]


def test_manifest_that_never_settles_is_no_corrupt_one(path):
    saved(path, SHORT)
    with pytest.raises(CheckpointFailure, match="replaced each of the 10 times") as raised:
        load(Mixed(path, manifest_size(path) + 100, reads=1000), URI, KEYS)
    assert raised.value.error["kind"] == "checkpoint_storage"


def test_checkpoint_that_is_replaced_before_its_files_are_read_gives_the_new_value(path):
    saved(path, SHORT)
    assert load(Interrupted(path, lambda: saved(path, LONG), 2), URI, KEYS)[0] == LONG


def test_checkpoint_that_is_replaced_several_times_gives_the_last_value(path):
    saved(path, SHORT)
    values = iter([LONG, "second", "third"])
    assert load(Interrupted(path, lambda: saved(path, next(values)), 2, 4, 6), URI, KEYS)[0] == "third"


def test_checkpoint_that_is_replaced_at_each_read_is_told_as_such(path):
    saved(path, SHORT)
    with pytest.raises(CheckpointFailure, match="replaced each of the 10 times") as raised:
        load(Interrupted(path, lambda: saved(path, LONG), *range(2, 1000, 2)), URI, KEYS)
    assert raised.value.error["kind"] == "checkpoint_storage"


def test_checkpoint_that_is_deleted_before_its_files_are_read_is_not_found(path, tmp_path):
    saved(path, SHORT)

    def delete() -> None:
        for file in sorted(tmp_path.rglob("*"), key=lambda file: file.name != "manifest.json"):
            file.unlink() if file.is_file() else None

    with pytest.raises(CheckpointFailure) as raised:
        load(Interrupted(path, delete, 2), URI, KEYS)
    assert raised.value.error["kind"] == "checkpoint_not_found"


class BetweenRequests:
    """A file of pyarrow's whose size is known, and whose content is asked for when another was there."""

    def __init__(self, file: Any, interrupt: Callable[[], object]) -> None:
        self._file = file
        self._interrupt = interrupt

    def __enter__(self) -> BetweenRequests:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def size(self) -> int:
        size: int = self._file.size()
        return size

    def read(self, size: int) -> bytes:
        self._interrupt()
        content: bytes = self._file.read(size)
        return content


class OnS3(Storage):
    """Lets ``interrupt`` act between the two requests for the first file of some name."""

    def __init__(self, path: str, options: dict[str, Any], ending: str, interrupt: Callable[[], object]) -> None:
        super().__init__(path, options)
        self._opened = self._filesystem
        self._ending = ending
        self._interrupts = [interrupt]
        self._filesystem = self

    def open_input_file(self, name: str) -> Any:
        file = self._opened.open_input_file(name)
        if name.endswith(self._ending) and self._interrupts:
            return BetweenRequests(file, self._interrupts.pop())
        return file


@pytest.fixture
def options(s3: S3Server) -> dict[str, Any]:
    endpoint = s3.endpoint.removeprefix("http://")
    keys = {"access_key": "test-access-key", "secret_key": "test-secret-key"}
    return {**keys, "region": REGION, "scheme": "http", "endpoint_override": endpoint}


@pytest.mark.parametrize("ending", ["manifest.json", ".data.00000"])
@pytest.mark.parametrize(("first", "second"), [(SHORT, LONG), (LONG, SHORT)], ids=["longer", "shorter"])
def test_file_on_s3_that_is_replaced_between_its_size_and_its_content_gives_the_new_value(
    bucket, options, first, second, ending
):
    path = f"s3://{bucket}/prefix"
    save(Storage(path, options), URI, first, KEYS)
    reader = OnS3(path, options, ending, lambda: save(Storage(path, options), URI, second, KEYS))
    assert load(reader, URI, KEYS)[0] == second


def test_manifest_on_s3_that_is_deleted_between_its_size_and_its_content_is_not_found(s3, bucket, options):
    path = f"s3://{bucket}/prefix"
    save(Storage(path, options), URI, SHORT, KEYS)

    def delete() -> None:
        for key in s3.keys(bucket):
            s3.client().delete_object(Bucket=bucket, Key=key)

    with pytest.raises(CheckpointFailure) as raised:
        load(OnS3(path, options, "manifest.json", delete), URI, KEYS)
    assert raised.value.error["kind"] == "checkpoint_not_found"
