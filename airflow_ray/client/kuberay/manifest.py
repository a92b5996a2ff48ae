"""The manifest of a RayCluster: read from what a user gives."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from airflow_ray.exceptions import RayClusterManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "RayCluster"
API_VERSION = "ray.io/v1"
FILE_ENDINGS = (".yaml", ".yml", ".json")
# KubeRay's own limit, so that the names that it makes of this one are none too long.
MAX_NAME_LENGTH = 53
_OF_KUBERNETES = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generateName",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def is_file_name(source: object) -> bool:
    """Return whether a manifest is given by the name of its file."""
    return isinstance(source, str) and "\n" not in source.strip() and source.strip().endswith(FILE_ENDINGS)


def read_manifest(source: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return a manifest that is the caller's own to change.

    :param source: as a mapping, or as text in YAML or JSON.
    :raises RayClusterManifestError: it is no manifest of a RayCluster.
    """
    manifest = _parsed(source) if isinstance(source, str) else source
    if not isinstance(manifest, dict):
        raise RayClusterManifestError(
            f"The manifest must be a mapping, or YAML text of one, or the name of a file of that, and is a "
            f"{type(manifest).__name__}: {str(source)[:80]!r}"
        )
    if (kind := manifest.get("kind")) != KIND:
        hint = ". Take what is under its rayClusterSpec as the spec" if kind == "RayJob" else ""
        raise RayClusterManifestError(f"The manifest must be of the kind {KIND}, and its kind is {kind!r}{hint}")
    if (version := manifest.get("apiVersion")) != API_VERSION:
        raise RayClusterManifestError(f"The manifest must have the apiVersion {API_VERSION}, and it has {version!r}")
    manifest = copy.deepcopy(manifest)
    manifest["metadata"] = _metadata(manifest)
    manifest.pop("status", None)
    ray_container(manifest["spec"]["headGroupSpec"] if _has_head(manifest) else None, "headGroupSpec")
    return manifest


def ray_container(group: Any, where: str) -> dict[str, Any]:
    """Return the container of a group in which Ray runs: the first one, as KubeRay sees it.

    :param group: the head's or one of workers.
    :param where: the group is, for the error.
    :raises RayClusterManifestError: it has none.
    """
    try:
        container = group["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError):
        container = None
    if not isinstance(container, dict):
        raise RayClusterManifestError(f"The manifest has no container in spec.{where}.template.spec.containers")
    return container


def require_name(name: str) -> str:
    """Return a name that KubeRay takes for a cluster.

    :raises RayClusterManifestError: it would not take this one.
    """
    if not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MAX_NAME_LENGTH:
        raise RayClusterManifestError(
            "The name of a Ray cluster must be of lower-case letters, digits and hyphens, begin with a letter, not end "
            f"with a hyphen, and have {MAX_NAME_LENGTH} characters at most, got {name!r}"
        )
    return name


def _metadata(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a manifest without what Kubernetes itself has written, if it was read from there."""
    metadata = manifest.get("metadata") or {}
    maps = [metadata] if not isinstance(metadata, dict) else [metadata.get("labels"), metadata.get("annotations")]
    if not all(isinstance(each, dict) for each in maps if each):
        raise RayClusterManifestError("The metadata of the manifest, its labels and annotations must be mappings")
    return {name: each for name, each in metadata.items() if each and name not in _OF_KUBERNETES}


def _has_head(manifest: dict[str, Any]) -> bool:
    return isinstance(manifest.get("spec"), dict) and "headGroupSpec" in manifest["spec"]


def _parsed(text: str) -> Any:
    import yaml

    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        raise RayClusterManifestError(f"The manifest is not YAML: {error}") from error
    if len(documents) != 1:
        raise RayClusterManifestError(f"The manifest must be one document of YAML, and there are {len(documents)}")
    return documents[0]
