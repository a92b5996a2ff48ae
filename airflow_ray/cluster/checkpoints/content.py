"""The files of one value: written and read by its format, each Ray object inside it on its own node."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.exactness import NotExactError
from airflow_ray.cluster.checkpoints.formats import FORMATS
from airflow_ray.cluster.checkpoints.parts import PartReader, PartWriter
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.own_tasks import own_task
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_content(storage: Storage, folder: str, prefix: str, value: Any) -> dict[str, Any]:
    """Write the files of one value in the first format that gives it back equal, and say what they are."""
    note = None
    for each in FORMATS:
        if each.holds(value):
            streams = _Streams(storage, folder, prefix)
            try:
                schema = each.dump(value, streams)
            except NotExactError as error:
                note = f"stored as a pickle, since Arrow does not hold {error} exactly"
                storage.delete(f"{folder}/{file['name']}" for file in files_in(streams.content()))
                continue
            return {"format": each.name, "schema": schema, **streams.content(), "note": note}
    raise CheckpointFailure(
        FailureKind.CHECKPOINT_NOT_PICKLABLE, storage.where(folder), f"no format holds {type(value)}"
    )


def read_content(storage: Storage, folder: str, content: dict[str, Any]) -> Any:
    """Return the value that :func:`write_content` wrote.

    :raises CheckpointFailure: a file is missing or changed, or a package is.
    """
    (used,) = (each for each in FORMATS if each.name == content["format"])
    try:
        return used.load(content["schema"], _Streams(storage, folder, "", content))
    except ImportError as error:
        raise CheckpointFailure(FailureKind.CHECKPOINT_PACKAGE, storage.where(folder), str(error)) from error


class _Streams:
    """The streams of one value, as files in ``folder`` whose names start with ``prefix``."""

    def __init__(self, storage: Storage, folder: str, prefix: str, content: dict[str, Any] | None = None) -> None:
        self._storage = storage
        self._folder = folder
        self._prefix = prefix
        self._files: dict[str, list[dict[str, Any]]] = content["files"] if content else {}
        self._objects: list[dict[str, Any]] = content["objects"] if content else []

    def content(self) -> dict[str, Any]:
        return {"files": self._files, "objects": self._objects}

    @contextmanager
    def create(self, name: str) -> Iterator[Any]:
        with PartWriter(self._storage, f"{self._folder}/{self._prefix}.{name}") as writer:
            self._files[name] = writer.files
            yield writer

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        with PartReader(self._storage, self._folder, self._files[name]) as reader:
            yield reader

    def create_objects(self, refs: list[Any]) -> None:
        if not refs:
            return
        write = _writer()
        self._objects += _results(
            [
                write.remote(self._storage.settings, self._folder, f"{self._prefix}-{number}", ref)
                for number, ref in enumerate(refs)
            ]
        )

    def open_objects(self) -> list[Any]:
        if not self._objects:
            return []
        read = _reader()
        pairs = [read.remote(self._storage.settings, self._folder, content) for content in self._objects]
        _results([outcome for _, outcome in pairs])
        return [value for value, _ in pairs]


def _results(outcomes: list[Any]) -> list[Any]:
    import ray

    results = []
    for result, error in ray.get(outcomes):
        if error is not None:
            raise CheckpointFailure(**error)
        results.append(result)
    return results


# Made once in a process: the head keeps the code of each one, of 150 KB, for as long as the owner lives.
@functools.cache
def _writer() -> Any:
    return own_task(_write_object, num_cpus=1)


@functools.cache
def _reader() -> Any:
    return own_task(_read_object, num_cpus=1, num_returns=2)


def _write_object(settings: dict[str, Any], folder: str, prefix: str, value: Any) -> tuple[Any, Any]:
    """Write a Ray object where it lies; a task of its own, which Ray runs on the node that holds it."""
    try:
        return write_content(Storage(**settings), folder, prefix, value), None
    except CheckpointFailure as failure:
        return None, failure.error


def _read_object(settings: dict[str, Any], folder: str, content: dict[str, Any]) -> tuple[Any, tuple[None, Any]]:
    try:
        return read_content(Storage(**settings), folder, content), (None, None)
    except CheckpointFailure as failure:
        return None, (None, failure.error)


def files_in(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each file of a value and of the Ray objects inside it."""
    for files in content["files"].values():
        yield from files
    for each in content["objects"]:
        yield from files_in(each)
