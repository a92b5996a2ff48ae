"""What a search asks for, checked and made plain before it is submitted."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from airflow_ray.cluster.tuning import space as search_space
from airflow_ray.exceptions import RayConfigurationError, RaySearchSpaceError


def natural(template: Any, rendered: Any) -> Any:
    """Return ``rendered`` with the texts that templates rendered to as the numbers, lists or mappings they are.

    :param template: what ``rendered`` was before. A text in it that was no template stays a text.
    """
    if isinstance(template, str) and isinstance(rendered, str):
        return _parsed(rendered) if "{{" in template or "{%" in template else rendered
    if isinstance(template, Mapping) and isinstance(rendered, Mapping):
        return {key: natural(template.get(key), value) for key, value in rendered.items()}
    if isinstance(template, (list, tuple)) and isinstance(rendered, (list, tuple)):
        return [natural(*pair) for pair in zip(template, rendered, strict=False)]
    return rendered


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (SyntaxError, ValueError):
            continue
    return text


def is_plain(space: Any) -> bool:
    """Return whether a search space can be checked before templates and outputs of other tasks are rendered."""
    if isinstance(space, Mapping):
        return all(map(is_plain, space.values()))
    if isinstance(space, (list, tuple)):
        return all(map(is_plain, space))
    is_template = isinstance(space, str) and ("{{" in space or "{%" in space)
    return not is_template and not hasattr(space, "resolve")


def check_space(space: Any, where: str = "param_space") -> None:
    """Check a search space.

    :param where: what the message calls it.
    :raises RaySearchSpaceError: it is no mapping, is misspelt, or its arguments make no sense.
    """
    if not isinstance(space, Mapping):
        raise RaySearchSpaceError(f"{where} must be a mapping, got {space!r}")
    try:
        search_space.check(space, where)
    except ValueError as error:
        raise RaySearchSpaceError(str(error)) from error


def named(field: str, value: Any) -> Any:
    """Return a scheduler or search algorithm as it was given: an object, a name, or a name with its arguments.

    :raises RayConfigurationError: a mapping is not of one name to its arguments.
    """
    if isinstance(value, Mapping):
        if len(value) != 1 or not all(isinstance(arguments, Mapping) for arguments in value.values()):
            raise RayConfigurationError(f"{field} must be a name with its arguments, {{name: {{…}}}}, got {value!r}")
        check_space(value, field)
        return {name: dict(arguments) for name, arguments in value.items()}
    return value or None


def number(field: str, value: Any) -> float | None:
    """Return a number over 0, or None for one that is left open, from what a template may have left as a text.

    :raises RayConfigurationError: it is none; the message names the ``field``.
    """
    if value is None or value in ("", "None"):
        return None
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        parsed = 0.0
    if not parsed > 0:
        raise RayConfigurationError(f"{field} must be a number over 0, got {value!r}")
    return parsed


def whole(field: str, value: Any) -> int | None:
    """Return a whole number over 0, or None, as :func:`number` does."""
    parsed = number(field, value)
    if parsed is not None and parsed != int(parsed):
        raise RayConfigurationError(f"{field} must be a whole number, got {value!r}")
    return None if parsed is None else int(parsed)


def amounts(resources: Any) -> dict[str, float] | None:
    """Return the resources of a trial, or None where nothing is said of them.

    :raises RayConfigurationError: they are no mapping of names to numbers.
    """
    parsed = _parsed(resources) if isinstance(resources, str) else resources
    if parsed in (None, ""):
        return None
    if not isinstance(parsed, Mapping):
        raise RayConfigurationError(f"resources_per_trial must be a mapping, got {resources!r}")
    checked = {name: _amount(f"resources_per_trial[{name!r}]", amount) for name, amount in parsed.items()}
    # Not to ask for any is to ask for one CPU.
    return {name: amount for name, amount in checked.items() if amount or name.lower() == "cpu"}


def _amount(field: str, value: Any) -> float:
    return 0.0 if str(value) in ("0", "0.0") else number(field, value) or 0.0
