"""The objects of Ray's in the options of work, which cross to the owner as plain data."""

from __future__ import annotations

from typing import Any


def with_ray_objects(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the strategy of Ray's that a mapping with its ``class`` tells.

    :raises ValueError: there is no such strategy, or it takes no such arguments.
    """
    strategy = options.get("scheduling_strategy")
    return {**options, "scheduling_strategy": _strategy(strategy)} if isinstance(strategy, dict) else options


def _strategy(told: dict[str, Any]) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy

    name, fields = told.get("class"), {key: value for key, value in told.items() if key != "class"}
    if name == NodeAffinitySchedulingStrategy.__name__:
        # The last two begin with an underscore in Ray.
        private = {f"_{key}": fields.pop(key) for key in _PRIVATE if key in fields}
        return NodeAffinitySchedulingStrategy(**fields, **private)
    if name == NodeLabelSchedulingStrategy.__name__:
        conditions = {key: _conditions(value or {}) for key, value in fields.items()}
        return NodeLabelSchedulingStrategy(**{"hard": {}, **conditions})
    raise ValueError(f"there is no scheduling_strategy {name!r}")


def _conditions(told: dict[str, Any]) -> dict[str, Any]:
    from ray.util.scheduling_strategies import DoesNotExist, Exists, In, NotIn

    classes: dict[str, Any] = {cls.__name__: cls for cls in (In, NotIn, Exists, DoesNotExist)}
    if unknown := {each["class"] for each in told.values()}.difference(classes):
        raise ValueError(f"a label has no condition {', '.join(sorted(unknown))}")
    return {label: classes[each["class"]](*each.get("values", ())) for label, each in told.items()}


_PRIVATE = ("spill_on_unavailable", "fail_on_unavailable")
