"""What lies under the path of a storage: checkpoints, and what tries that were killed have left of them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.content import files_in
from airflow_ray.cluster.checkpoints.manifest import (
    DEPTH,
    MANIFEST,
    folder_of,
    folder_of_prefix,
    is_folder,
    own_manifest,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.cluster.checkpoints.storage import Storage
    from airflow_ray.cluster.failures import CheckpointFailure

# A try that was killed leaves files that no manifest names; one that still runs has newer ones.
ORPHAN_SECONDS = 24 * 3600.0

# A file of a checkpoint's value, of a Ray object in it, or a manifest that was not yet in its place: under the path may
# lie what belongs to others.
_OWN_NAME = re.compile(r"[0-9a-f]{12}(-\d+)*\..+\.\d{5,}|manifest\.json\.[0-9a-f]{16}", re.ASCII)


def stored(
    storage: Storage, prefix: str = "", pass_over: Callable[[CheckpointFailure], None] = lambda failure: None
) -> Iterator[dict[str, Any]]:
    """Yield what the manifest of each checkpoint tells, signed or not, for object URIs that start with ``prefix``.

    :param pass_over: told of each manifest that is bad.
    :raises CheckpointFailure: the storage fails.
    """
    for file in storage.files(folder_of_prefix(prefix), DEPTH):
        folder, _, name = file.name.rpartition("/")
        if name != MANIFEST or not is_folder(folder):
            continue
        manifest = own_manifest(storage, folder, pass_over)
        if manifest is not None and manifest["uri"].startswith(prefix):
            yield summary(storage, manifest)


def files_of(storage: Storage, uri: str) -> list[str]:
    """Return the names of the files of an output's checkpoint, and of its earlier tries; that of the manifest first."""
    folder = folder_of(uri)
    names = [file.name for file in storage.files(folder) if is_own(file.name.rpartition("/")[2])]
    return sorted(names, key=lambda name: name != f"{folder}/{MANIFEST}")


def outdated_files_of(storage: Storage, uri: str, limit: datetime) -> list[str]:
    """Return the names of the files of a checkpoint that was written before a time; that of the manifest first.

    Of others beside them only those that are more than a day old: a task that runs again may be writing its next one.

    :param limit: with a time zone.
    """
    folder = folder_of(uri)
    manifest = own_manifest(storage, folder)
    if manifest is None or datetime.fromisoformat(manifest["created_at"]) >= limit:
        return []
    named = {f"{folder}/{name}" for name in (MANIFEST, *(each["name"] for each in files_in(manifest)))}
    young = {file.name for file in storage.files(folder) if file.changed_at >= time.time() - ORPHAN_SECONDS}
    return [name for name in files_of(storage, uri) if name in named or name not in young]


def is_own(name: str) -> bool:
    """Return whether a file is called as one of a checkpoint is."""
    return name == MANIFEST or _OWN_NAME.fullmatch(name) is not None


def orphans(storage: Storage, older_than: timedelta = timedelta(0)) -> list[str]:
    """Return the names of data files that no manifest names and that are more than a day old.

    Where a manifest is not one of this release, nothing in its folder is an orphan.

    :param older_than: how old they are at least, if that is more than a day.
    """
    named: set[str] = set()
    foreign: set[str] = set()
    old: list[tuple[str, str]] = []
    limit = time.time() - max(ORPHAN_SECONDS, older_than.total_seconds())
    for file in storage.files(depth=DEPTH):
        folder, _, name = file.name.rpartition("/")
        if not is_folder(folder):
            continue
        if name != MANIFEST:
            if file.changed_at < limit and is_own(name):
                old.append((folder, file.name))
        elif (manifest := own_manifest(storage, folder)) is None:
            foreign.add(folder)
        else:
            named |= {f"{folder}/{each['name']}" for each in files_in(manifest)}
    return [name for folder, name in old if name not in named and folder not in foreign]
