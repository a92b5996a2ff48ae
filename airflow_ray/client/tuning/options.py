"""What a search asks for, checked and made plain before it is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_ray.client.submission.rendered import amounts, value_of, value_or_none, whole_limit
from airflow_ray.cluster.tuning import space as search_space
from airflow_ray.exceptions import RayConfigurationError, RaySearchSpaceError


def values_of_templates(template: Any, rendered: Any) -> Any:
    """Return ``rendered`` with the texts that templates rendered to as the numbers, lists or mappings they are.

    :param template: what ``rendered`` was before. A text in it that was no template stays a text.
    """
    if isinstance(template, str) and isinstance(rendered, str):
        return value_of(rendered) if _is_template(template) else rendered
    if isinstance(template, Mapping) and isinstance(rendered, Mapping):
        return {key: values_of_templates(template.get(key), value) for key, value in rendered.items()}
    if isinstance(template, (list, tuple)) and isinstance(rendered, (list, tuple)):
        return [values_of_templates(*pair) for pair in zip(template, rendered, strict=False)]
    return rendered


def is_plain(space: Any) -> bool:
    """Return whether a search space can be checked before templates and outputs of other tasks are rendered."""
    if isinstance(space, Mapping):
        return all(map(is_plain, space.values()))
    if isinstance(space, (list, tuple)):
        return all(map(is_plain, space))
    return not _is_template(space) and not hasattr(space, "resolve")


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


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


def algorithm(field: str, value: Any) -> Any:
    """Return a scheduler or search algorithm as it was given: an object, a name, or a name with its arguments.

    :param field: what the message calls it.
    :returns: None where nothing is said.
    :raises RayConfigurationError: a mapping is not of one name to its arguments.
    """
    if isinstance(value, Mapping):
        if len(value) != 1 or not all(isinstance(arguments, Mapping) for arguments in value.values()):
            raise RayConfigurationError(f"{field} must be a name with its arguments, {{name: {{…}}}}, got {value!r}")
        check_space(value, field)
        return {name: dict(arguments) for name, arguments in value.items()}
    return value_or_none(value)


def sample_count(value: Any) -> int:
    """Return how many trials there shall be, -1 for no end of them, and 1 where nothing is said.

    :raises RayConfigurationError: it is no whole number, or another one below 1.
    """
    return -1 if str(value).strip() == "-1" else whole_limit("num_samples", value) or 1


def trial_resources(value: Any) -> dict[str, float] | None:
    """Return the resources of a trial, or None where nothing is said of them.

    :raises RayConfigurationError: they are no mapping of names to numbers.
    """
    asked = amounts("resources_per_trial", value)
    # Not to ask for any is to ask for one CPU.
    return {name: amount for name, amount in asked.items() if amount or name.lower() == "cpu"} or None
