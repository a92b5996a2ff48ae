"""Arguments as Airflow's worker has them, made plain Python: the cluster need not have anything of Airflow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from airflow_ray._compat import on_changed_sources
from airflow_ray.object_uri import is_object_uri


def plain(value: Any, fetch: Callable[[str], Any]) -> Any:
    """Return ``value`` without what only Airflow knows, however nested.

    The lazy sequences that Airflow passes for mapped tasks, and for ``.map``, ``.zip`` and ``.concat``, are lists then.

    :param fetch: returns the object of an object URI, for what Airflow would take apart letter by letter.
    """
    if type(value).__module__.partition(".")[0] == "airflow":
        return _without_airflow(value, fetch)
    if isinstance(value, dict):
        return with_items(value, {key: plain(item, fetch) for key, item in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        return with_parts(value, [plain(item, fetch) for item in value])
    return value


def with_items(value: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    """Return a dict of whatever kind with other items; itself, where they are the same."""
    if all(items[key] is value[key] for key in items):
        return value
    changed = copy.copy(value)
    changed.update(items)
    return changed


def with_parts(value: Any, parts: list[Any]) -> Any:
    """Return a list, tuple or set of whatever kind with other parts; itself, where they are the same."""
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    return value._make(parts) if hasattr(value, "_make") else type(value)(parts)


def _without_airflow(value: Any, fetch: Callable[[str], Any]) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        # Those of ``params`` hold more than their values.
        return {key: plain(value[key], fetch) for key in value}
    if isinstance(value, Sequence):
        # A slice of a mapped sequence has the items before the map.
        items: Iterable[Any] = on_changed_sources(
            value, lambda source: fetch(source) if is_object_uri(source) else source
        )
        return [plain(item, fetch) for item in items]
    return value
