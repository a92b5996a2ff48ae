"""Whether a value is JSON that comes back equal, and if not, what in it is not."""

from __future__ import annotations

import math
from typing import Any

from airflow_ray.cluster.values.description import type_name

# What Airflow sends to its database takes no larger numbers.
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
# Airflow takes a mapping with these for one of its own.
_RESERVED = frozenset({"__classname__", "__id__"})
_RESERVED_TOGETHER = frozenset({"__type", "__var"})


def reason_against_json(value: Any) -> str | None:
    """Return why ``value`` is no JSON, or would not come back equal, with the place; None if it would.

    >>> reason_against_json({"when": [1, (2, 3)]})
    "result['when'][1] is a tuple, which would come back as a list: return a list"
    """
    try:
        return _reason(value, "result")
    except RecursionError:
        return "the result is nested too deep, or holds itself"


def _reason(value: Any, place: str) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _reason_of_text(value, place)
    if isinstance(value, int):
        is_short = _LOWEST <= value <= _HIGHEST
        return None if is_short else f"{place} is {value:#x}, a whole number of more than 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {float(value)}, which JSON does not know"
    if isinstance(value, list):
        return _first(_reason(item, f"{place}[{number}]") for number, item in enumerate(value))
    if isinstance(value, dict):
        return _reason_of_keys(value, place) or _first(
            _reason(each, f"{place}[{key!r}]") for key, each in value.items()
        )
    if isinstance(value, tuple):
        return f"{place} is a tuple, which would come back as a list: return a list"
    return f"{place} is of type {type_name(value)}"


def _reason_of_text(value: str, place: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{place} is a text that is no Unicode at character {error.start}"
    return None


def _reason_of_keys(value: dict[Any, Any], place: str) -> str | None:
    for key in value:
        if not isinstance(key, str):
            return f"{place} has the key {key!r} of type {type_name(key)}, and keys of JSON are texts"
        if reason := _reason_of_text(key, f"the key {key!r} of {place}"):
            return reason
    if reserved := _RESERVED & value.keys() or (value.keys() >= _RESERVED_TOGETHER and _RESERVED_TOGETHER):
        return f"{place} has the key {min(reserved)!r}, which Airflow keeps for itself"
    return None


def _first(reasons: Any) -> str | None:
    return next(filter(None, reasons), None)
