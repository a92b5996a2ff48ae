"""Which build of this package lives in the owner that it starts."""

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
    for path, source in sorted(_sources(files("airflow_ray.cluster"), "")):
        digest.update(f"{path}:{len(source)}:".encode() + source)
    return Build(__version__, digest.hexdigest()[:12])


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{path}/{entry.name}", entry.read_bytes()
