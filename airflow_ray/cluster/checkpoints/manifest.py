"""The manifest of a checkpoint: the one file that says what the others are, signed, and written last."""

from __future__ import annotations

import hashlib
import hmac
import json
import platform
import re
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints.content import files_in
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.description import type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.checkpoints.storage import Storage

MANIFEST = "manifest.json"
VERSION = 1
MAX_SEGMENT_BYTES = 120
# Enough for a terabyte of data, or a million columns; what is larger nobody reads into memory unverified.
MAX_BYTES = 64 * 1024 * 1024
# Of folders from the path to the files of a checkpoint: one for each part of its object URI.
DEPTH = 6
MAX_NESTING = 100
# How often one is read again that others replace all the time.
MAX_READS = 10

_SCHEME = "ray-object://"
# Connection, DAG, run, task, map index, key.
_FOLDER = re.compile(r"([^/]+/){4}(-1|\d+)/[^/]+", re.ASCII)
_CUT = re.compile(r".+~[0-9a-f]{32}", re.ASCII)
_PACKAGES = ("pyarrow", "pandas", "polars", "numpy", "xgboost", "modin", "ray")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "uri": str,
    "type": str,
    "format": str,
    "schema": dict,
    "files": dict,
    "objects": list,
    "bytes": int,
    "created_at": str,
    "packages": dict,
    "note": (str, type(None)),
}


def folder_of(uri: str) -> str:
    """Return the folder of an output under the checkpoint path, whatever its object URI holds.

    Each part of the URI becomes one folder. A long one is cut and made unique by its SHA-256, since S3 takes
    1,024 bytes for a whole key and a disk 255 for a name; and so is one that looks as if it had been.
    """
    return "/".join(map(_segment, uri.removeprefix(_SCHEME).split("/")))


def is_folder(folder: str) -> bool:
    """Return whether a folder is like those that :func:`folder_of` returns."""
    return _FOLDER.fullmatch(folder) is not None


def folder_of_prefix(prefix: str) -> str:
    """Return the innermost folder under which lies each output whose object URI starts with ``prefix``."""
    return folder_of(prefix[: prefix.rindex("/")]) if "/" in prefix.removeprefix(_SCHEME) else ""


def _segment(part: str) -> str:
    if not part.strip("."):
        return part.replace(".", "%2E")
    if len(part) > MAX_SEGMENT_BYTES or (len(part) == MAX_SEGMENT_BYTES and _CUT.fullmatch(part)):
        return f"{part[: MAX_SEGMENT_BYTES - 33]}~{hashlib.sha256(part.encode()).hexdigest()[:32]}"
    return part


def write_manifest(storage: Storage, uri: str, value: Any, content: dict[str, Any], key: str) -> dict[str, Any]:
    """Write and return the manifest of a value whose files are all there.

    :param content: what these files are.
    :param key: hexadecimal key that signs.
    """
    manifest = {
        "version": VERSION,
        "uri": uri,
        "type": type_name(value),
        **content,
        "bytes": sum(file["bytes"] for file in files_in(content)),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "packages": _packages(),
    }
    manifest["signature"] = _signature(manifest, key)
    data = json.dumps(manifest, indent=1).encode()
    name = _name_in(folder_of(uri))
    if len(data) > MAX_BYTES:
        message = f"it would have {len(data)} bytes, and {MAX_BYTES} can be read: make the value of fewer, larger parts"
        raise CheckpointFailure(FailureKind.CHECKPOINT_STORAGE, storage.where(name), message)
    storage.replace(name, data)
    problem = storage.problem_with(name, data)
    # Another writer may have put a whole one in its place since.
    if problem and own_manifest(storage, folder_of(uri)) is None:
        raise CheckpointFailure(FailureKind.CHECKPOINT_STORAGE, storage.where(name), problem)
    return manifest


def signed_manifest(storage: Storage, uri: str, keys: list[str]) -> dict[str, Any]:
    """Return the manifest of an output.

    :param keys: hexadecimal keys; one of them must have signed.
    :raises CheckpointFailure: there is none, it cannot be read, or it is not what was written.
    """
    folder = folder_of(uri)
    manifest = _read(storage, folder, keys)
    if manifest is None:
        raise CheckpointFailure(FailureKind.CHECKPOINT_NOT_FOUND, storage.where(folder), "there is no manifest.json")
    # The outputs of one task are signed with one key.
    if manifest["uri"] != uri:
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_SIGNATURE,
            storage.where(_name_in(folder)),
            "it was signed as the checkpoint of another output",
        )
    return manifest


def own_manifest(
    storage: Storage, folder: str, pass_over: Callable[[CheckpointFailure], None] = lambda failure: None
) -> dict[str, Any] | None:
    """Return the manifest in a folder, signed or not, if it is that of the checkpoint which belongs there.

    It is None where there is none, and for what is broken, of a newer release, or of another program.

    :param pass_over: told of one that is there and does not count.
    :raises CheckpointFailure: the storage fails.
    """
    try:
        manifest = _read(storage, folder)
        if manifest is not None and folder_of(manifest["uri"]) != folder:
            raise CheckpointFailure(
                FailureKind.CHECKPOINT_CORRUPT,
                storage.where(_name_in(folder)),
                "the manifest is that of a checkpoint which belongs in another folder",
            )
    except CheckpointFailure as failure:
        if failure.error["kind"] not in (FailureKind.CHECKPOINT_CORRUPT, FailureKind.CHECKPOINT_VERSION):
            raise
        pass_over(failure)
        return None
    return manifest


def summary(storage: Storage, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest tells a user."""
    named = ("uri", "type", "format", "bytes", "created_at", "packages", "note")
    shape = {name: manifest["schema"][name] for name in ("rows", "shape") if name in manifest["schema"]}
    counts = {"files": sum(1 for _ in files_in(manifest)), "objects": len(manifest["objects"])}
    path = storage.where(folder_of(manifest["uri"]))
    return {**{name: manifest[name] for name in named}, **shape, **counts, "path": path}


def replaced_too_often(where: str) -> CheckpointFailure:
    """Return the failure of a reader that never met one whole checkpoint."""
    return CheckpointFailure(
        FailureKind.CHECKPOINT_STORAGE, where, f"it was replaced each of the {MAX_READS} times that it was read"
    )


def _read(storage: Storage, folder: str, keys: list[str] | None = None) -> dict[str, Any] | None:
    """Return the manifest in a folder, or None where there is none.

    One that is replaced meanwhile can be read as a mixture (see :meth:`Storage.read`): it is wrong only if the same
    bytes were read twice.

    :param keys: of which one must have signed; None takes what nobody has signed, too.
    """
    name = _name_in(folder)
    wrong = None
    for _ in range(MAX_READS):
        content = storage.read(name, MAX_BYTES)
        if content is None:
            return None
        try:
            manifest = _parsed(content, storage.where(name))
            if keys is not None:
                _check_signature(manifest, keys, storage.where(name))
            return manifest
        except CheckpointFailure:
            if content == wrong:
                raise
            wrong = content
    raise replaced_too_often(storage.where(name))


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["version"]
        if type(version) is not int:
            raise TypeError(f"version is of {type(version)}")
        if version == VERSION:
            _require_fields(manifest)
    # Of another program it may be anything; lists in lists without end are JSON too.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"the manifest is not one: {type(error).__name__}: {error}"
        raise CheckpointFailure(FailureKind.CHECKPOINT_CORRUPT, where, reason) from error
    if version != VERSION:
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_VERSION, where, f"it has format version {version}, and this release reads {VERSION}"
        )
    return manifest


def _require_fields(manifest: dict[str, Any]) -> None:
    """Raise what a reader would, who met a manifest that lacks something."""
    _require_depth(manifest, MAX_NESTING)
    for name, kind in _TYPES.items():
        if not isinstance(manifest[name], kind):
            raise TypeError(f"{name} is of {type(manifest[name])}")
    for file in files_in(manifest):
        if not isinstance(file["name"], str):
            raise TypeError(f"a file has a name of {type(file['name'])}")
    if datetime.fromisoformat(manifest["created_at"]).tzinfo is None:
        raise ValueError("created_at has no time zone")


def _require_depth(value: Any, left: int) -> None:
    """Raise if lists and mappings lie so deep in each other that a reader would meet the end of the stack."""
    if not left:
        raise RecursionError(f"it is more than {MAX_NESTING} levels deep")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(each, (dict, list)):
            _require_depth(each, left - 1)


def _check_signature(manifest: dict[str, Any], keys: list[str], where: str) -> None:
    # As bytes, since hmac compares no text beyond ASCII; JSON may even hold what UTF-8 does not.
    found = str(manifest.get("signature", "")).encode(errors="replace")
    if not any(hmac.compare_digest(found, _signature(manifest, key).encode()) for key in keys):
        raise CheckpointFailure(
            FailureKind.CHECKPOINT_SIGNATURE, where, "its signature is wrong, so nothing of it was read"
        )


def _signature(manifest: dict[str, Any], key: str) -> str:
    """Return the HMAC-SHA256 (RFC 2104) of all else in the manifest, and so of the SHA-256 of each file."""
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    return hmac.new(bytes.fromhex(key), json.dumps(signed, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _name_in(folder: str) -> str:
    return f"{folder}/{MANIFEST}".lstrip("/")


def _packages() -> dict[str, str]:
    """Return the versions of the packages that a value may need, as far as they are loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    return {"python": platform.python_version(), **{name: str(v) for name, v in loaded.items() if v is not None}}
