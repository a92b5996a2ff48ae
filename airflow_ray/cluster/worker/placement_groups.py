"""Placement groups that a callable has made, which must end with its work.

Ray keeps one until the job ends that made it, whatever becomes of the task. The work of all tasks is one job here, the
keeper's, so a group of work that was killed would hold its CPUs and GPUs for as long as the cluster lives.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def report_placement_groups(tell: Callable[[Any], None]) -> Iterator[None]:
    """Call ``tell`` with each placement group that this process makes meanwhile, unless it is detached.

    Those that further processes make, such as Ray Train's controller, do not show here.
    """
    import ray.util.placement_group

    # A module that is imported during one work keeps this function for the next one.
    module: Any = sys.modules["ray.util.placement_group"]
    if not hasattr(module.placement_group, "listener"):
        module.placement_group = ray.util.placement_group = _with_listener(module.placement_group)
    listening: Any = module.placement_group
    listening.listener = tell
    try:
        yield
    finally:
        listening.listener = None


def _with_listener(make: Callable[..., Any]) -> Any:
    @functools.wraps(make)
    def placement_group(*args: Any, **kwargs: Any) -> Any:
        group = make(*args, **kwargs)
        listening: Any = placement_group
        if listening.listener is not None and "detached" not in (*args, kwargs.get("lifetime")):
            listening.listener(group)
        return group

    return placement_group


def remove(groups: Sequence[Any]) -> None:
    """Give back what ``groups`` hold, with all that runs in them; those that are gone already are left out."""
    from ray.util import placement_group_table, remove_placement_group

    table = placement_group_table()
    for group in groups:
        if table.get(group.id.hex(), {}).get("state", "REMOVED") != "REMOVED":
            remove_placement_group(group)
