"""What the schema of a resource says of an object: what is wrong with it, what is unknown, how its lists are merged."""

from __future__ import annotations

import copy
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

# Data that lies beside the project's folder.
FOLDERS = [parent / "shared" / "kuberay" for parent in Path(__file__).parents]

LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "labels": LABELS,
        "annotations": LABELS,
        "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "ownerReferences": {
            "type": "array",
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
        },
    },
}


def crd_file(plural: str) -> Path | None:
    """Return KubeRay's definition of a resource, where that is on this machine."""
    files = [folder / f"ray.io_{plural}.yaml.xz" for folder in FOLDERS]
    return next((file for file in files if file.exists()), None)


@cache
def crd_schema(plural: str) -> dict[str, Any] | None:
    """Return the schema of one of KubeRay's resources, or None where its definition is missing."""
    if (file := crd_file(plural)) is None:
        return None
    definition = yaml.load(lzma.decompress(file.read_bytes()), yaml.CSafeLoader)
    versions = {version["name"]: version for version in definition["spec"]["versions"]}
    schema: dict[str, Any] = copy.deepcopy(versions["v1"]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = METADATA
    _allow_null(schema)
    return schema


@cache
def _validator(plural: str) -> Draft202012Validator:
    return Draft202012Validator(crd_schema(plural) or {})


def faults(plural: str, value: Any) -> list[tuple[str, str]]:
    """Return what is wrong with an object: the path of each field and what is said of it, as an API server says it."""
    if crd_schema(plural) is None:
        return []
    return [(_path(error), _text(error)) for error in _validator(plural).iter_errors(value)]


def untypable(plural: str, value: Any) -> list[str]:
    """Return why an object cannot be applied: fields that the schema does not know or that are of another type."""
    if (schema := crd_schema(plural)) is None:
        return []
    unknown = [f".{path}: field not declared in schema" for path in prune(copy.deepcopy(value), schema)]
    wrong = [error for error in _validator(plural).iter_errors(value) if error.validator == "type"]
    return unknown + [f".{_path(error)}: expected {error.validator_value}, got {error.instance!r}" for error in wrong]


def prune(value: Any, schema: dict[str, Any] | None, path: str = "") -> list[str]:
    """Set the defaults, drop the fields that the schema does not know, and return the paths of those."""
    if schema is None:
        return []
    unknown = []
    if isinstance(value, dict):
        for name, default in defaults_of(schema).items():
            value.setdefault(name, copy.deepcopy(default))
        for name in list(value):
            place = f"{path}.{name}".removeprefix(".")
            if _knows(schema, name):
                unknown += prune(value[name], child(schema, name), place)
            else:
                unknown.append(place)
                del value[name]
    elif isinstance(value, list):
        for number, item in enumerate(value):
            unknown += prune(item, schema.get("items"), f"{path}[{number}]")
    return unknown


def defaults_of(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: each["default"] for name, each in properties.items() if "default" in each}


def child(schema: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Return the schema of a field, or None where nothing is said of it."""
    if schema is None:
        return METADATA if name == "metadata" else None
    found = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def is_atomic(schema: dict[str, Any] | None) -> bool:
    """Whether a mapping has one owner as a whole."""
    return schema is not None and schema.get("x-kubernetes-map-type") == "atomic"


def list_keys(schema: dict[str, Any] | None, items: list[Any]) -> list[str] | None:
    """Return what tells the items of a list apart: no keys for a set, None for a list with one owner as a whole."""
    if schema is not None:
        kind = schema.get("x-kubernetes-list-type", "atomic")
        return {"set": [], "map": schema.get("x-kubernetes-list-map-keys")}.get(kind)
    # So most lists of Kubernetes' own resources are.
    return ["name"] if items and all(isinstance(item, dict) and "name" in item for item in items) else None


def _knows(schema: dict[str, Any], name: str) -> bool:
    if name in ("apiVersion", "kind") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return True
    return child(schema, name) is not None or ("properties" not in schema and "additionalProperties" not in schema)


def _allow_null(schema: Any) -> None:
    """Say that a value may be null as JSON Schema says it."""
    if isinstance(schema, list):
        for each in schema:
            _allow_null(each)
    elif isinstance(schema, dict):
        if schema.get("nullable") and isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        for each in schema.values():
            _allow_null(each)


def _path(error: ValidationError) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        path += f".{missing[0]}"
    return path.removeprefix(".") or "<nil>"


def _text(error: ValidationError) -> str:
    if error.validator == "required":
        return "Required value"
    if error.validator == "type":
        kind = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", type(None): "null"}
        found = kind.get(type(error.instance), "number")
        return f'Invalid value: "{found}": {_path(error)} in body must be of type {error.validator_value}: "{found}"'
    return f"Invalid value: {error.instance!r}: {error.message}"
