"""What templates leave behind: texts where numbers and mappings were meant, or where nothing was."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_ray.exceptions import RayConfigurationError

_NOTHING = ("", "None", "null")


def is_nothing(value: Any) -> bool:
    """Return whether a value says nothing: None, or a text that a template renders where it has nothing to say."""
    return value is None or (isinstance(value, str) and value.strip() in _NOTHING)


def value_or_none(value: Any) -> Any:
    """Return a value, or None where it says nothing."""
    return None if is_nothing(value) else value


def value_of(text: str) -> Any:
    """Return the number, list or mapping that a text is, as JSON or as Python writes it; any other text as it is."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (SyntaxError, TypeError, ValueError):
            continue
    return text


def amount(field: str, value: Any) -> float:
    """Return a number from 0 on; a whole one as an int.

    :param field: what the message calls it.
    :raises RayConfigurationError: it is none.
    """
    number = _number(value)
    if number is None or number < 0:
        raise RayConfigurationError(f"{field} must be a number from 0 on, got {value!r}")
    return number


def limit(field: str, value: Any) -> float | None:
    """Return a number over 0, or None where nothing is said; otherwise as :func:`amount`."""
    if is_nothing(value):
        return None
    number = _number(value)
    if number is None or number <= 0:
        raise RayConfigurationError(f"{field} must be a number over 0, got {value!r}")
    return number


def whole_limit(field: str, value: Any) -> int | None:
    """Return a whole number over 0, or None where nothing is said; otherwise as :func:`amount`."""
    number = limit(field, value)
    if number is not None and not isinstance(number, int):
        raise RayConfigurationError(f"{field} must be a whole number, got {value!r}")
    return number


def arguments(field: str, value: Any) -> list[Any]:
    """Return a list of positional arguments, an empty one where nothing is said.

    :raises RayConfigurationError: it is none, as a text that a template has left. The message does not show it.
    """
    parsed = value_of(value) if isinstance(value, str) else value
    if is_nothing(parsed):
        return []
    if isinstance(parsed, (str, bytes, Mapping)) or not isinstance(parsed, Iterable):
        raise RayConfigurationError(f"{field} must be a list of arguments, got a {type(value).__name__}")
    return list(parsed)


def mapping(field: str, value: Any) -> dict[str, Any]:
    """Return a copy of a mapping, an empty one where nothing is said.

    :raises RayConfigurationError: it is none. The message does not show it, since it may hold secrets.
    """
    parsed = value_of(value) if isinstance(value, str) else value
    if is_nothing(parsed):
        return {}
    if not isinstance(parsed, Mapping):
        kind = f"a {type(value).__name__}"
        raise RayConfigurationError(
            f"{field} must be a mapping, got {'a text that does not hold one' if isinstance(value, str) else kind}"
        )
    return dict(parsed)


def amounts(field: str, value: Any) -> dict[str, float]:
    """Return a mapping of names to numbers from 0 on, without those of which nothing is said.

    :raises RayConfigurationError: it is none; the message names the entry.
    """
    entries = mapping(field, value).items()
    return {name: amount(f"{field}[{name!r}]", each) for name, each in entries if not is_nothing(each)}


def _number(value: Any) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    # What is larger does not fit into a message.
    return int(number) if number.is_integer() and abs(number) < 2**63 else number
