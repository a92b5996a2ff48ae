"""What lies under the path of a storage: checkpoints, and what tries that were killed have left of them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.content import files_in
from airflow_ray.cluster.checkpoints.manifest import MANIFEST, folder_of, folder_of_prefix, own_manifest, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.cluster.checkpoints.storage import Storage

# A try that was killed leaves files that no manifest names; one that still runs has newer ones.
ORPHAN_SECONDS = 24 * 3600.0

# A file of a checkpoint's value, of a Ray object in it, or a manifest that was not yet in its place: under the path may
# lie what belongs to others.
_OWN_NAME = re.compile(r"[0-9a-f]{12}(-\d+)*\..+\.\d{5}|manifest\.json\.[0-9a-f]{16}")


def stored(storage: Storage, prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield what the manifest of each checkpoint tells, signed or not, for object URIs that start with ``prefix``.

    :raises CheckpointFailure: the storage fails.
    """
    for file in storage.files(folder_of_prefix(prefix)):
        folder, _, name = file.name.rpartition("/")
        manifest = own_manifest(storage, folder) if name == MANIFEST else None
        if manifest is not None and manifest["uri"].startswith(prefix):
            yield summary(storage, manifest)


def files_of(storage: Storage, uri: str) -> list[str]:
    """Return the names of all files in the folder of an output, that of the manifest first."""
    folder = folder_of(uri)
    names = [file.name for file in storage.files(folder)]
    return sorted(names, key=lambda name: name != f"{folder}/{MANIFEST}")


def orphans(storage: Storage) -> list[str]:
    """Return the names of data files that no manifest names and that are more than a day old.

    Where a manifest is not one of this release, nothing in its folder is an orphan.
    """
    named: set[str] = set()
    foreign: set[str] = set()
    old: list[tuple[str, str]] = []
    limit = time.time() - ORPHAN_SECONDS
    for file in storage.files():
        folder, _, name = file.name.rpartition("/")
        if name != MANIFEST:
            if file.changed_at < limit and _OWN_NAME.fullmatch(name):
                old.append((folder, file.name))
        elif (manifest := own_manifest(storage, folder)) is None:
            foreign.add(folder)
        else:
            named |= {f"{folder}/{each['name']}" for each in files_in(manifest)}
    return [name for folder, name in old if name not in named and folder not in foreign]
