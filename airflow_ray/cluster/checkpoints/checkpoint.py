"""Checkpoints: one folder for each output, data files first, a signed ``manifest.json`` last."""

from __future__ import annotations

import hashlib
import hmac
import json
import platform
import sys
import time
import uuid
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_ray.cluster.checkpoints.content import files_in, read_content, write_content
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.description import type_name

if TYPE_CHECKING:
    from collections.abc import Iterator


MANIFEST = "manifest.json"


VERSION = 1


MAX_SEGMENT_BYTES = 120


# A try that was killed leaves files that no manifest names; one that still runs has newer ones.
ORPHAN_SECONDS = 24 * 3600.0


_SCHEME = "ray-object://"


_PACKAGES = ("pyarrow", "pandas", "polars", "numpy", "xgboost", "modin", "ray")


def located(target: dict[str, Any], key: str) -> tuple[Storage, str]:
    """Return the storage and the object URI of one output.

    :param target: as :meth:`~airflow_ray.cluster.owner.actor.Owner.submit` takes it.
    :raises CheckpointFailure: the storage does not take its settings.
    """
    return Storage(**target["storage"]), f"{target['uri']}/{quote(key, safe='')}"


def folder_of(uri: str) -> str:
    """Return the folder of an output under the checkpoint path, whatever its object URI holds.

    Each part of the URI becomes one folder. A long one is cut and made unique by its SHA-256, since S3 takes
    1,024 bytes for a whole key and a disk 255 for a name.
    """
    return "/".join(map(_segment, uri.removeprefix(_SCHEME).split("/")))


def _segment(part: str) -> str:
    if not part.strip("."):
        return part.replace(".", "%2E")
    if len(part) > MAX_SEGMENT_BYTES:
        return f"{part[: MAX_SEGMENT_BYTES - 33]}~{hashlib.sha256(part.encode()).hexdigest()[:32]}"
    return part


def save(storage: Storage, uri: str, value: Any, keys: list[str]) -> dict[str, Any]:
    """Write ``value`` as the checkpoint of ``uri``, in place of an earlier one, which stays until this is whole.

    :param keys: hexadecimal keys; the first signs.
    :returns: what :func:`describe` returns.
    :raises CheckpointFailure: it could not be written; what was written of it is deleted again.
    """
    folder = folder_of(uri)
    earlier = _files_before(storage, folder)
    write_id = uuid.uuid4().hex[:12]
    try:
        content = write_content(storage, folder, write_id, value)
        manifest = {
            "version": VERSION,
            "uri": uri,
            "type": type_name(value),
            **content,
            "bytes": sum(file["bytes"] for file in files_in(content)),
            "created_at": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            "packages": _packages(),
        }
        manifest["signature"] = _signature(manifest, keys[0])
        storage.replace(f"{folder}/{MANIFEST}", json.dumps(manifest, indent=1).encode())
    except BaseException:
        with suppress(CheckpointFailure):
            storage.delete(file.name for file in storage.files(folder) if _base_name(file.name).startswith(write_id))
        raise
    _clean(storage, folder, manifest, earlier)
    return _summary(storage, folder, manifest)


def load(storage: Storage, uri: str, keys: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the value that the checkpoint of ``uri`` holds, and what :func:`describe` returns.

    :param keys: hexadecimal keys; one of them must have signed.
    :raises CheckpointFailure: there is none, it cannot be read, or it is not what was written.
    """
    folder = folder_of(uri)
    manifest = _signed_manifest(storage, uri, keys)
    while True:
        try:
            return read_content(storage, folder, manifest), _summary(storage, folder, manifest)
        except CheckpointFailure:
            # A later try may have put another checkpoint in place while this one was read.
            current = _signed_manifest(storage, uri, keys)
            if current == manifest:
                raise
            manifest = current


def describe(storage: Storage, uri: str, keys: list[str]) -> dict[str, Any]:
    """Return what the manifest of ``uri`` tells, as plain data.

    :raises CheckpointFailure: there is none, it cannot be read, or it is not what was written.
    """
    return _summary(storage, folder_of(uri), _signed_manifest(storage, uri, keys))


def stored(storage: Storage, prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield what the manifest of each checkpoint tells, signed or not, for object URIs that start with ``prefix``.

    :raises CheckpointFailure: the storage fails.
    """
    folder = folder_of(prefix[: prefix.rindex("/")]) if "/" in prefix.removeprefix(_SCHEME) else ""
    for file in storage.files(folder):
        found, _, name = file.name.rpartition("/")
        if name != MANIFEST:
            continue
        with suppress(CheckpointFailure):
            manifest = _manifest(storage, found)
            if manifest is not None and manifest["uri"].startswith(prefix):
                yield _summary(storage, found, manifest)


def files_of(storage: Storage, uri: str) -> list[str]:
    """Return the names of all files in the folder of an output, that of the manifest first."""
    folder = folder_of(uri)
    names = [file.name for file in storage.files(folder)]
    return sorted(names, key=lambda name: name != f"{folder}/{MANIFEST}")


def orphans(storage: Storage) -> list[str]:
    """Return the names of data files that no manifest names and that are more than a day old."""
    named: set[str] = set()
    old: list[str] = []
    limit = time.time() - ORPHAN_SECONDS
    for file in storage.files():
        folder, _, name = file.name.rpartition("/")
        if name == MANIFEST:
            manifest = _manifest(storage, folder) or {"files": {}, "objects": []}
            named |= {f"{folder}/{each['name']}" for each in files_in(manifest)}
        elif file.changed_at < limit:
            old.append(file.name)
    return [name for name in old if name not in named]


def _manifest(storage: Storage, folder: str) -> dict[str, Any] | None:
    name = f"{folder}/{MANIFEST}"
    content = storage.read(name)
    if content is None:
        return None
    where = storage.where(name)
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointFailure(FailureKind.CHECKPOINT_CORRUPT, where, f"the manifest is not one: {error!r}") from error
    if version != VERSION:
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_VERSION, where, f"it has format version {version}, and this release reads {VERSION}"
        )
    return manifest


def _signed_manifest(storage: Storage, uri: str, keys: list[str]) -> dict[str, Any]:
    folder = folder_of(uri)
    manifest = _manifest(storage, folder)
    if manifest is None:
        raise CheckpointFailure(FailureKind.CHECKPOINT_NOT_FOUND, storage.where(folder), "there is no manifest.json")
    signature = str(manifest.get("signature", ""))
    where = storage.where(f"{folder}/{MANIFEST}")
    if not any(hmac.compare_digest(signature, _signature(manifest, key)) for key in keys):
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_SIGNATURE, where, "its signature is wrong, so nothing of it was read"
        )
    # The outputs of one task are signed with one key.
    if manifest["uri"] != uri:
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_SIGNATURE, where, "it was signed as the checkpoint of another output"
        )
    return manifest


def _signature(manifest: dict[str, Any], key: str) -> str:
    """Return the HMAC-SHA256 (RFC 2104) of all else in the manifest, and so of the SHA-256 of each file."""
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    return hmac.new(bytes.fromhex(key), json.dumps(signed, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _files_before(storage: Storage, folder: str) -> set[str]:
    """Return the names of the data files of the checkpoint that is there now; a broken one has none."""
    try:
        manifest = _manifest(storage, folder)
    except CheckpointFailure as failure:
        if failure.error["kind"] not in (FailureKind.CHECKPOINT_CORRUPT, FailureKind.CHECKPOINT_VERSION):
            raise
        manifest = None
    return {file["name"] for file in files_in(manifest)} if manifest else set()


def _clean(storage: Storage, folder: str, manifest: dict[str, Any], earlier: set[str]) -> None:
    """Delete the files of the checkpoint before and, after a day, those of tries that never ended."""
    current = {MANIFEST, *(file["name"] for file in files_in(manifest))}
    limit = time.time() - ORPHAN_SECONDS
    old = (
        file.name
        for file in storage.files(folder)
        if _base_name(file.name) in earlier or (_base_name(file.name) not in current and file.changed_at < limit)
    )
    # The checkpoint is whole: what could not be deleted costs space only, until the next try.
    with suppress(CheckpointFailure):
        storage.delete(old)


def _summary(storage: Storage, folder: str, manifest: dict[str, Any]) -> dict[str, Any]:
    told = ("uri", "type", "format", "bytes", "created_at", "packages", "note")
    summary = {name: manifest[name] for name in told}
    for name in ("rows", "shape"):
        if name in manifest["schema"]:
            summary[name] = manifest["schema"][name]
    counts = {"files": sum(1 for _ in files_in(manifest)), "objects": len(manifest["objects"])}
    return {**summary, **counts, "path": storage.where(folder)}


def _base_name(name: str) -> str:
    return name.rpartition("/")[2]


def _packages() -> dict[str, str]:
    """Return the versions of the packages that a value may need, as far as they are loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    return {"python": platform.python_version(), **{name: str(v) for name, v in loaded.items() if v is not None}}
