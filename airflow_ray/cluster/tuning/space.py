"""Search spaces as plain JSON: ``{"eta": {"loguniform": [0.0001, 0.1]}}``.

A mapping with one key, the name of a search space, and a list, its arguments, stands for what the function of that
name in ``ray.tune`` makes. All else is taken as it is: constants, nested mappings, and what ``ray.tune`` has made.
"""

from __future__ import annotations

import difflib
from typing import Any

# Fewest and most arguments. The last one of those that round, a q at the front, is the step.
_ARGUMENTS = {
    "uniform": (2, 2),
    "quniform": (3, 3),
    "loguniform": (2, 3),
    "qloguniform": (3, 4),
    "randint": (2, 2),
    "qrandint": (2, 3),
    "lograndint": (2, 3),
    "qlograndint": (3, 4),
    "randn": (0, 2),
    "qrandn": (3, 3),
}


_LISTS = ("choice", "grid_search")
NAMES = (*_ARGUMENTS, *_LISTS)
# So alike that it is a slip of the pen: "loguniforn", "grid-search".
_ALIKE = 0.8


def check(space: Any, where: str = "param_space") -> None:
    """Check a search space without Ray.

    :param where: what the message calls it.
    :raises ValueError: a search space is misspelt or has wrong arguments; the message tells which.
    """
    name = _name(space, where)
    if name in _LISTS:
        if not space[name]:
            raise ValueError(f"{where}: {name} needs at least one value")
    elif name is not None:
        _check_numbers(name, space[name], f"{where}: {name}")
    elif isinstance(space, dict):
        for key, value in space.items():
            check(value, f"{where}[{key!r}]")
    elif isinstance(space, (list, tuple)):
        for i, value in enumerate(space):
            check(value, f"{where}[{i}]")


def build(space: Any) -> Any:
    """Return ``space`` with what ``ray.tune`` makes of the search spaces in it."""
    from ray import tune

    name = _name(space, "param_space")
    if name in _LISTS:
        return getattr(tune, name)(list(space[name]))
    if name is not None:
        return getattr(tune, name)(*space[name])
    if isinstance(space, dict):
        return {key: build(value) for key, value in space.items()}
    return [build(value) for value in space] if isinstance(space, list) else space


def _name(value: Any, where: str) -> str | None:
    """Return the name of the search space that ``value`` stands for, if it does."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, arguments),) = value.items()
    is_list = isinstance(arguments, (list, tuple))
    if name in NAMES:
        if not is_list:
            raise ValueError(f"{where}: {name} takes a list of its arguments, got {arguments!r}")
        return str(name)
    if is_list and (alike := difflib.get_close_matches(str(name), NAMES, n=1, cutoff=_ALIKE)):
        raise ValueError(f"{where}: there is no search space {name!r}: did you mean {alike[0]!r}?")
    return None


def _check_numbers(name: str, arguments: Any, where: str) -> None:
    fewest, most = _ARGUMENTS[name]
    if not fewest <= len(arguments) <= most:
        number = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ValueError(f"{where} takes {number} arguments, got {list(arguments)!r}")
    if wrong := [each for each in arguments if isinstance(each, bool) or not isinstance(each, (int, float))]:
        raise ValueError(f"{where} takes numbers, got {wrong[0]!r}")
    if "randn" in name:
        return
    lower, upper = arguments[:2]
    if not lower < upper:
        raise ValueError(f"{where} begins at {lower!r}, which is not below its end {upper!r}")
    if "log" in name and lower <= 0:
        raise ValueError(f"{where} must begin above 0, got {lower!r}")
