"""What OpenLineage is told of work: the datasets that it has read and made, and what that took, as plain data."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_ray.client.described import shape_of, stored
from airflow_ray.exceptions import ObjectURIError
from airflow_ray.object_uri import SCHEME, ObjectURI, is_object_uri, quote_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of the objects that one event names: a task may read and make thousands.
MAX_OBJECTS = 100


class Dataset(NamedTuple):
    """A dataset by its name, and what is known of it.

    :param namespace: and ``name``, as OpenLineage's naming rules want them.
    :param name: tells it from the others of the namespace.
    :param logical_name: what it has in common with that of each other run of the DAG, in the same namespace.
    :param columns: name and type of the first columns of a table.
    :param rows: of a table, or items of what has a length.
    :param bytes: its size; None where nobody knows, and so are the others.
    :param files: in which it lies.
    :param format: of these.
    """

    namespace: str
    name: str
    logical_name: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    format: str | None = None


def inputs_of(conn_id: str, record: dict[str, Any]) -> list[Dataset]:
    """Return the objects that work was given, and the checkpoints that some of them were read from for it.

    :param record: as the cluster's ``describe`` returns it; that of an earlier release names its inputs only.
    """
    found = []
    for each in record.get("inputs", [])[:MAX_OBJECTS]:
        uri = ObjectURI.of_record(conn_id, each["record_id"], each["key"])
        described = each.get("output") or {}
        found.append(_object(uri, described))
        if each["source"] == "checkpoint":
            found += _checkpoint(described)
    return found


def outputs_of(uri: ObjectURI, record: dict[str, Any]) -> list[Dataset]:
    """Return the objects that work has made, and their checkpoints.

    :param uri: of the work.
    """
    found = []
    for key, output in islice(stored(record.get("outputs", {})).items(), MAX_OBJECTS):
        found += [_object(uri.with_key(key), output), *_checkpoint(output)]
    return found


def named_in(arguments: Any) -> list[Dataset]:
    """Return the objects that the arguments of a task name, however nested, of which no more is known yet."""
    return [_object(uri, {}) for uri in islice(dict.fromkeys(_uris_in(arguments)), MAX_OBJECTS)]


def resources_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what work had reserved and what it has used, in the words of the facet that tells it."""
    used, children = record.get("used") or {}, record.get("children_used") or {}
    submitted, started, finished = (record.get(f"{name}_at") for name in ("submitted", "started", "finished"))
    return {
        "state": record["state"],
        "node": record.get("node"),
        "requested": record.get("asked") or {},
        "queuedSeconds": _between(submitted, started),
        "elapsedSeconds": _between(started, finished),
        "cpuSeconds": used.get("cpu_seconds"),
        "peakMemoryBytes": used.get("memory"),
        "peakGpuMemoryBytes": used.get("gpu_memory"),
        "childProcesses": children.get("processes"),
        "childCpuSeconds": children.get("cpu_seconds"),
        "childPeakMemoryBytes": children.get("memory"),
        "readBytes": record.get("read_bytes"),
        "writtenBytes": record.get("written_bytes"),
        "spilledBytes": record.get("spilled_bytes"),
    }


def _object(uri: ObjectURI, described: dict[str, Any]) -> Dataset:
    return Dataset(
        SCHEME + quote_part(uri.conn_id),
        f"{uri.record_id}/{quote_part(uri.key)}",
        "/".join(map(quote_part, (uri.dag_id, uri.task_id, uri.key))),
        _columns(described),
        rows=next(iter(shape_of(described)), None),
        bytes=described.get("bytes"),
    )


def _checkpoint(described: dict[str, Any]) -> list[Dataset]:
    """Return where the copy of an object lies, if it has one."""
    saved = described.get("checkpoint") or {}
    if "path" not in saved:
        return []
    scheme, bucket, path, *_ = urlsplit(saved["path"])
    # A path of a file system begins with a slash, a key of a bucket with none.
    name = ("file", path) if scheme == "file" else (f"{scheme}://{bucket}", path.lstrip("/"))
    rows = saved.get("rows", (saved.get("shape") or [None])[0])
    counts = {"rows": rows, "bytes": saved.get("bytes"), "files": saved.get("files")}
    return [Dataset(*name, None, _columns(described), **counts, format=saved.get("format"))]


def _columns(described: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, dtype) for name, dtype in described.get("columns") or ())


def _uris_in(value: Any) -> Iterator[ObjectURI]:
    if is_object_uri(value):
        try:
            yield ObjectURI.parse(value)
        # The task itself says what is wrong with it.
        except ObjectURIError:
            return
    elif isinstance(value, (dict, list, tuple, set, frozenset)):
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for each in items:
            yield from _uris_in(each)


def _between(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else round(later - earlier, 6)
