"""The cluster's half of this package as one file that Python runs, for those who start the gateway in their cluster."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib.resources import files

from airflow_ray.cluster.build import shipped_sources
from airflow_ray.cluster.protocol import BUNDLE_NAME

# The oldest that a zip file can tell: so the same sources make the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_MAIN = b"""\
import sys

if sys.version_info < (3, 10):
    sys.exit("airflow_ray_gateway needs Python 3.10 or newer, and this is " + sys.version.split()[0])

from airflow_ray.cluster.gateway.command import main

main()
"""


@cache
def bundle() -> bytes:
    """Return the file: with Ray and pyarrow, ``python airflow_ray_gateway.pyz start`` starts owner and gateway."""
    package = files("airflow_ray")
    sources = {
        "__main__.py": _MAIN,
        "airflow_ray/__init__.py": package.joinpath("__init__.py").read_bytes(),
        **{f"airflow_ray/cluster{path}": source for path, source in shipped_sources()},
    }
    return b"#!/usr/bin/env python3\n" + _zipped(sources, zipfile.ZIP_DEFLATED)


@cache
def package_with_bundle() -> bytes:
    """Return a zip file with that file in it: a working directory for a job of Ray's."""
    return _zipped({BUNDLE_NAME: bundle()}, zipfile.ZIP_STORED)


def _zipped(contents: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = compression
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, compresslevel=9)
    return file.getvalue()
