"""What a worker that reads an object sees: its first rows, or why it cannot be unpickled there."""

from __future__ import annotations

from typing import Any

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.sample import sample


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


def sample_of(value: Any, rows: int) -> dict[str, Any]:
    """Return the first rows of an object as :func:`sample` does, or an ``error``; as a task of the owner's.

    :param value: the object, which lets Ray run this where it lies.
    """
    try:
        return sample(value, rows)
    # A class of the user's may raise whatever it likes when it is shown.
    except Exception as error:
        return {"error": failure(FailureKind.NOT_READABLE, **describe_exception(error))}
