"""Who owns which field of an object: what server-side apply goes by.

A path is a tuple of steps, each of which is written as Kubernetes writes it in ``managedFields``: ``f:name`` for the
field of a mapping, ``k:{…}`` for the item of a list that has keys, ``v:…`` for the item of a set.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.schema import child, defaults_of, is_atomic, list_keys

Path = tuple[str, ...]
Schema = dict[str, Any] | None
# What an API server sets itself, so that nobody owns it.
SYSTEM = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
        "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
    )
)  # fmt: skip


@dataclass
class Manager:
    """Whoever writes an object, and the fields of it that he owns."""

    name: str
    operation: str
    subresource: str = ""
    time: str = ""
    owned: set[Path] = field(default_factory=set)

    def described(self, api_version: str) -> dict[str, Any]:
        """Return the entry in ``managedFields``."""
        tree: dict[str, Any] = {}
        for path in sorted(self.owned):
            place = tree
            for step in path:
                place = place.setdefault(step, {})
        entry = {"manager": self.name, "operation": self.operation, "apiVersion": api_version, "time": self.time}
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": tree}
        return {**entry, "subresource": self.subresource} if self.subresource else entry


def leaves(value: Any, schema: Schema, path: Path = ()) -> dict[Path, Any]:
    """Return what is owned as a whole in an object: numbers, text, and what the schema calls atomic."""
    if path in SYSTEM or path in (("f:apiVersion",), ("f:kind",)):
        return {}
    found: dict[Path, Any] = {}
    if isinstance(value, dict) and value and not is_atomic(schema):
        for name, each in value.items():
            found |= leaves(each, child(schema, name), (*path, f"f:{name}"))
        return found
    if isinstance(value, list) and value and (keys := list_keys(schema, value)) is not None:
        for item in value:
            found |= leaves(item, _of_items(schema), (*path, step_of(item, keys, _of_items(schema))))
        return found
    return {path: value}


def step_of(item: Any, keys: list[str], schema: Schema) -> str:
    """Return the step to the item of a list."""
    if not keys:
        return f"v:{json.dumps(item)}"
    defaults = defaults_of(schema or {})
    return f"k:{json.dumps({key: item.get(key, defaults.get(key)) for key in keys}, separators=(',', ':'))}"


def merged(live: Any, applied: Any, schema: Schema) -> Any:
    """Return a value with what was applied put into it."""
    if isinstance(live, dict) and isinstance(applied, dict) and not is_atomic(schema):
        result = dict(live)
        for name, each in applied.items():
            result[name] = merged(live[name], each, child(schema, name)) if name in live else copy.deepcopy(each)
        return result
    if isinstance(live, list) and isinstance(applied, list) and (keys := list_keys(schema, applied)) is not None:
        return _merged_lists(live, applied, keys, _of_items(schema))
    return copy.deepcopy(applied)


def without(value: Any, path: Path, schema: Schema) -> Any:
    """Return a value without what is at a path, and without the mappings and items that this leaves empty."""
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and (name := step.removeprefix("f:")) in value:
        left = without(value[name], rest, child(schema, name)) if rest else None
        return {**value, name: left} if left else {key: each for key, each in value.items() if key != name}
    if isinstance(value, list) and (keys := list_keys(schema, value)) is not None:
        kept = []
        for item in value:
            if step_of(item, keys, _of_items(schema)) != step:
                kept.append(item)
            elif rest and (left := without(item, rest, _of_items(schema))):
                kept.append(left)
        return kept
    return value


def _merged_lists(live: list[Any], applied: list[Any], keys: list[str], schema: Schema) -> list[Any]:
    by_step = {step_of(item, keys, schema): item for item in live}
    for item in applied:
        step = step_of(item, keys, schema)
        by_step[step] = merged(by_step[step], item, schema) if step in by_step else copy.deepcopy(item)
    return list(by_step.values())


def _of_items(schema: Schema) -> Schema:
    return None if schema is None else schema.get("items")
