"""Folders and files of this machine that a job needs, as packages that the cluster has."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_ray.client.submission.rendered import mapping, value_of
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pathspec import GitIgnoreSpec

    from airflow_ray.client.connection.dashboard import Dashboard

    # What is left out below a folder, with that folder.
    Ignored = list[tuple[Path, GitIgnoreSpec]]

# What the dashboard takes in one request.
MAX_BYTES = 100 * 1024**2
IGNORE_FILES = (".gitignore", ".rayignore")
DEFAULT_EXCLUDES = (".git", ".venv", "venv", "__pycache__")
# The oldest that a zip file can tell: so the same files make the same package.
_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1024**2


def with_packages(runtime_env: Any, dashboard: Dashboard, folder: str) -> dict[str, Any]:
    """Return a runtime environment with addresses in place of what lies on this machine, which is uploaded.

    The name of a package is made of what is in it: it is uploaded once, and changed code has another name.

    :param runtime_env: with ``working_dir`` and ``py_modules`` that may be folders, zip files or wheels.
    :param folder: what a relative path is relative to.
    :raises RayConfigurationError: something is not there, or is too large.
    :raises RayConnectionError: it could not be uploaded.
    """
    env = mapping("runtime_env", runtime_env)
    working_dir, modules = env.get("working_dir"), env.get("py_modules")
    if isinstance(modules, str):
        modules = value_of(modules)
    excludes = value_of(env["excludes"]) if isinstance(env.get("excludes"), str) else env.get("excludes")
    excludes = [excludes] if isinstance(excludes, str) else excludes or []
    if working_dir is not None and not _is_address(working_dir):
        env.pop("excludes", None)
        env["working_dir"] = _uploaded("working_dir", Path(folder, working_dir), dashboard, excludes)
    if isinstance(modules, (list, tuple)):
        env["py_modules"] = [
            each
            if _is_address(each)
            else _uploaded(f"py_modules[{number}]", Path(folder, _path_of(each)), dashboard, excludes, is_module=True)
            for number, each in enumerate(modules)
        ]
    return env


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and "://" in value


def _path_of(module: Any) -> Any:
    """Return the folder of a package, or the file of a module, that is named by itself."""
    paths = getattr(module, "__path__", None)
    return next(iter(paths)) if paths else getattr(module, "__file__", None) or module


def _uploaded(name: str, path: Path, dashboard: Dashboard, excludes: Sequence[str], is_module: bool = False) -> str:
    if (path.suffix == ".whl" and is_module) or path.suffix == ".zip":
        return _uploaded_file(name, path, dashboard)
    if not (path.is_dir() or (is_module and path.suffix == ".py" and path.is_file())):
        kinds = "a folder, a module, a wheel or a zip file" if is_module else "a folder or a zip file"
        raise RayConfigurationError(
            f"runtime_env[{name!r}] names {str(path)!r}, and there is {'no ' + kinds} there. Give its path on the "
            "machines of Airflow, relative to the folder of the DAG's file, or the address of a zip file"
        )
    with _zipped(path, excludes, is_module) as (file, digest):
        _check_size(name, path, file)
        return dashboard.upload_as(f"_ray_pkg_{digest[:32]}.zip", file)


def _uploaded_file(name: str, path: Path, dashboard: Dashboard) -> str:
    try:
        with path.open("rb") as file:
            _check_size(name, path, file)
            if path.suffix == ".whl":
                return dashboard.upload_as(path.name, file)
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            file.seek(0)
            return dashboard.upload_as(f"_ray_pkg_{digest.hexdigest()[:32]}.zip", file)
    except OSError as error:
        raise RayConfigurationError(
            f"runtime_env[{name!r}] names {str(path)!r}, which cannot be read here: {error.strerror}"
        ) from error


def _check_size(name: str, path: Path, file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise RayConfigurationError(
            f"runtime_env[{name!r}] names {str(path)!r}, which is {size:,} bytes as a package, and Ray's dashboard "
            f"takes {MAX_BYTES:,} at most. Leave out what the job does not need, in runtime_env['excludes'] or a file "
            ".rayignore, or give the address of a zip file, s3://…"
        )


@contextmanager
def _zipped(path: Path, excludes: Sequence[str], with_folder: bool) -> Iterator[tuple[IO[bytes], str]]:
    """Give a zip file of a folder or of one file, and what tells its content from any other.

    :param with_folder: whether the folder itself is in it, as Python wants it of a package.
    """
    digest = hashlib.sha256()
    root = path.parent if with_folder or path.is_file() else path
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in [path] if path.is_file() else _files(path, [(path, _patterns([*DEFAULT_EXCLUDES, *excludes]))]):
                entry = zipfile.ZipInfo(each.relative_to(root).as_posix(), _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                # Not as it is here, which may be another one where the next try of the task runs.
                entry.external_attr = (0o755 if os.access(each, os.X_OK) else 0o644) << 16
                digest.update(f"{entry.filename}\0{entry.external_attr}\0{each.stat().st_size}\0".encode())
                with each.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                    while chunk := source.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        target.write(chunk)
        yield file, digest.hexdigest()


def _files(folder: Path, ignored: Ignored) -> Iterator[Path]:
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            ignored = [*ignored, (folder, _patterns((folder / name).read_text().splitlines()))]
    for each in sorted(folder.iterdir()):
        ending = "/" if each.is_dir() else ""
        if any(spec.match_file(f"{each.relative_to(base).as_posix()}{ending}") for base, spec in ignored):
            continue
        # A link to a folder that it lies in has no end.
        if each.is_dir() and not (each.is_symlink() and each.resolve() in each.parents):
            yield from _files(each, ignored)
        elif each.is_file():
            yield each


def _patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)
