"""Placement groups that a callable has made, which must end with its work.

Ray keeps one until the job ends that made it, whatever becomes of the task. The work of all tasks is one job here, the
keeper's, so a group of work that was killed would hold its CPUs and GPUs for as long as the cluster lives.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.worker.listening import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def report_placement_groups(tell: Callable[[Any], None]) -> Iterator[None]:
    """Call ``tell`` with each placement group that this process makes meanwhile, unless it is detached.

    Those that further processes make, such as Ray Train's controller, do not show here.
    """
    import ray.util.placement_group

    def tell_of_own(group: Any, /, *args: Any, **kwargs: Any) -> None:
        if "detached" not in (*args, kwargs.get("lifetime")):
            tell(group)

    # Under that name the package has the function, in place of the module.
    with listen("placement_group", tell_of_own, sys.modules["ray.util.placement_group"], ray.util):
        yield


def remove(groups: Sequence[Any]) -> list[Any]:
    """Give back what ``groups`` hold, with all that runs in them; those that are gone already are left out.

    :returns: those of which Ray did not say that it will, for another time.
    """
    from ray.util import placement_group_table, remove_placement_group

    try:
        table = placement_group_table()
    # A head that is busy or being replaced makes Ray raise whatever it likes.
    except Exception:
        return list(groups)
    left = []
    for group in groups:
        if table.get(group.id.hex(), {}).get("state", "REMOVED") != "REMOVED":
            try:
                remove_placement_group(group)
            except Exception:
                left.append(group)
    return left
