"""Checkpoints: one folder for each output, data files first, a signed ``manifest.json`` last."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from airflow_ray.cluster.checkpoints.content import files_in, read_content, write_content
from airflow_ray.cluster.checkpoints.inventory import ORPHAN_SECONDS, is_own
from airflow_ray.cluster.checkpoints.manifest import (
    MANIFEST,
    MAX_READS,
    folder_of,
    own_manifest,
    replaced_too_often,
    signed_manifest,
    summary,
    write_manifest,
)
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.failures import CheckpointFailure


def located(target: dict[str, Any], key: str) -> tuple[Storage, str]:
    """Return the storage and the object URI of one output.

    :param target: as :meth:`~airflow_ray.cluster.owner.actor.Owner.submit` takes it.
    :raises CheckpointFailure: the storage does not take its settings.
    """
    return Storage(**target["storage"]), f"{target['uri']}/{quote(key, safe='')}"


def save(storage: Storage, uri: str, value: Any, keys: list[str]) -> dict[str, Any]:
    """Write ``value`` as the checkpoint of ``uri``, in place of an earlier one, which stays until this is whole.

    :param keys: hexadecimal keys; the first signs.
    :returns: what :func:`describe` returns.
    :raises CheckpointFailure: it could not be written; what was written of it is deleted again, unless its manifest is
        in place all the same.
    """
    folder = folder_of(uri)
    earlier = own_manifest(storage, folder)
    write_id = uuid.uuid4().hex[:12]
    try:
        content = write_content(storage, folder, write_id, value)
        manifest = write_manifest(storage, uri, value, content, keys[0])
    except BaseException:
        with suppress(CheckpointFailure):
            _withdraw(storage, folder, write_id)
        raise
    _clean(storage, folder, {MANIFEST, *_names(manifest)}, _names(earlier) if earlier else set())
    return summary(storage, manifest)


def load(storage: Storage, uri: str, keys: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the value that the checkpoint of ``uri`` holds, and what :func:`describe` returns.

    :param keys: hexadecimal keys; one of them must have signed.
    :raises CheckpointFailure: there is none, it cannot be read, or it is not what was written.
    """
    unreadable = None
    for _ in range(MAX_READS):
        manifest = signed_manifest(storage, uri, keys)
        try:
            return read_content(storage, folder_of(uri), manifest), summary(storage, manifest)
        except CheckpointFailure:
            # Where another was put in place meanwhile, the files of this one are gone.
            if manifest == unreadable:
                raise
            unreadable = manifest
    raise replaced_too_often(storage.where(folder_of(uri)))


def describe(storage: Storage, uri: str, keys: list[str]) -> dict[str, Any]:
    """Return what the manifest of ``uri`` tells, as plain data.

    :raises CheckpointFailure: there is none, it cannot be read, or it is not what was written.
    """
    return summary(storage, signed_manifest(storage, uri, keys))


def _withdraw(storage: Storage, folder: str, write_id: str) -> None:
    """Delete what was written, but for what the manifest names: it may have come to its place before the failure."""
    manifest = own_manifest(storage, folder)
    named = _names(manifest) if manifest else set()
    written = [file.name for file in storage.files(folder) if _base_name(file.name).startswith(write_id)]
    storage.delete(name for name in written if _base_name(name) not in named)


def _clean(storage: Storage, folder: str, current: set[str], earlier: set[str]) -> None:
    """Delete the files of the checkpoint before and, after a day, those of tries that never ended."""
    limit = time.time() - ORPHAN_SECONDS
    own = (file for file in storage.files(folder) if is_own(_base_name(file.name)))
    old = (
        file.name
        for file in own
        if _base_name(file.name) not in current and (_base_name(file.name) in earlier or file.changed_at < limit)
    )
    # The checkpoint is whole: what could not be deleted costs space only, until the next try.
    with suppress(CheckpointFailure):
        storage.delete(old)


def _names(manifest: dict[str, Any]) -> set[str]:
    return {file["name"] for file in files_in(manifest)}


def _base_name(name: str) -> str:
    return name.rpartition("/")[2]
