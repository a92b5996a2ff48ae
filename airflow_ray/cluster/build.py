"""Which build of this package this is, and so which owner is its own."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from airflow_ray import __version__
from airflow_ray.cluster.owner.keeper import Build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable


@cache
def own_build() -> Build:
    """Return the release of this package and the SHA-256, shortened, of all sources that are shipped to Ray."""
    digest = hashlib.sha256()
    for path, source in shipped_sources():
        digest.update(f"{path}:{len(source)}:".encode() + source)
    return Build(__version__, digest.hexdigest()[:12])


def shipped_sources() -> list[tuple[str, bytes]]:
    """Return the paths of these sources within this half of the package, in order, and their texts."""
    return sorted(_sources(files("airflow_ray.cluster"), ""))


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{path}/{entry.name}", entry.read_bytes()
