"""Objects that a worker cannot unpickle, for lack of a package or by what a class of the user's does."""

from __future__ import annotations

from typing import Any

from airflow_ray.cluster.values.exceptions import describe_exception


def why_unreadable(refs: list[Any]) -> dict[str, Any] | None:
    """Return as plain data what is raised where an object is unpickled, or None; as a task of the owner's.

    :param refs: the ref of the object alone, in a list: Ray would unpickle an argument of its own accord.
    """
    import ray

    try:
        ray.get(refs[0])
    except ray.exceptions.RaySystemError as error:
        return describe_exception(error)
    # It is lost, for example, which others find out.
    except ray.exceptions.RayError:
        return None
    return None
