"""Arguments for Ray's own ``options`` as plain data, which is all that crosses to the cluster."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from airflow_ray.exceptions import RayConfigurationError

_STRATEGY = "scheduling_strategy"
_MAX_INTEGER = 2**63 - 1


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without anything that is no plain data, such as objects of Ray's.

    :raises RayConfigurationError: one cannot travel; the message names it, and says what to do.
    """
    return {name: _plain_option(name, value) for name, value in options.items()}


def plain_data(value: Any, name: str) -> Any:
    """Return numbers, texts, bytes, lists and mappings of the plain kinds.

    :param name: what a message calls it.
    :raises RayConfigurationError: there is something else in it.
    """
    if value is None or type(value) in (bool, float, str, bytes):
        return value
    if isinstance(value, Enum):
        return plain_data(value.value, name)
    if isinstance(value, numbers.Integral):
        return _integer(int(value), name)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, (str, bytes)):
        return str(value) if isinstance(value, str) else bytes(value)
    if isinstance(value, Mapping):
        return {str(key): plain_data(each, f"{name}[{key!r}]") for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_data(each, f"{name}[{number}]") for number, each in enumerate(value)]
    raise RayConfigurationError(
        f"{name} is of type {type(value).__name__}, which cannot be sent to the cluster: it must be a number, a text, "
        "a list or a mapping of such"
    )


def _plain_option(name: str, value: Any) -> Any:
    where = f"ray_options[{name!r}]"
    if name == _STRATEGY and (plain := _STRATEGIES.get(type(value).__name__)) is not None and _is_of_ray(value):
        return plain(value, where)
    if name == "retry_exceptions" and isinstance(value, (list, tuple)):
        raise RayConfigurationError(
            f"{where} holds classes of exceptions, which is of no use here: what the callable raises fails the task, "
            "and its retries are Airflow's. Set retries of the task instead."
        )
    return plain_data(value, where)


def _is_of_ray(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "ray"


def _integer(value: int, name: str) -> int:
    if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise RayConfigurationError(f"{name} must be a number of at most 64 bits, got {value}")
    return value


def _node_affinity(strategy: Any, where: str) -> dict[str, Any]:
    return {
        "class": type(strategy).__name__,
        "node_id": plain_data(strategy.node_id, f"{where}.node_id"),
        "soft": bool(strategy.soft),
        "spill_on_unavailable": bool(strategy._spill_on_unavailable),
        "fail_on_unavailable": bool(strategy._fail_on_unavailable),
    }


def _node_labels(strategy: Any, where: str) -> dict[str, Any]:
    return {
        "class": type(strategy).__name__,
        "hard": _conditions(strategy.hard, f"{where}.hard"),
        "soft": _conditions(strategy.soft, f"{where}.soft"),
    }


def _conditions(expressions: Any, where: str) -> dict[str, Any]:
    return {
        str(each.key): {
            "class": type(each.operator).__name__,
            "values": plain_data(getattr(each.operator, "values", []), where),
        }
        for each in expressions
    }


def _placement_group(_strategy: Any, where: str) -> dict[str, Any]:
    raise RayConfigurationError(
        f"{where} names a placement group, whose handle works only in the process that made it. Make the "
        "placement group inside the callable, and start there what is to run in it."
    )


_STRATEGIES: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "NodeAffinitySchedulingStrategy": _node_affinity,
    "NodeLabelSchedulingStrategy": _node_labels,
    "PlacementGroupSchedulingStrategy": _placement_group,
}
