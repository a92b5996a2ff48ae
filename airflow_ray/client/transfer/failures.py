"""What is told of a value that did not arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.exceptions import RayOutOfMemoryError, RayPicklingError, RayWorkerCrashedError

if TYPE_CHECKING:
    from airflow_ray.object_uri import ObjectURI


def not_picklable(value: Any, error: BaseException) -> RayPicklingError:
    """Return the error for a value that cannot be sent."""
    return RayPicklingError(
        f"A value of type {type(value).__name__} cannot be pickled, so it cannot be placed in Ray's object store: "
        f"{error}"
    )


def not_readable_here(uri: ObjectURI, error: BaseException) -> RayPicklingError:
    """Return the error for an object that arrived, and cannot be unpickled."""
    return RayPicklingError(
        f"{uri} cannot be unpickled in this process, which needs the packages it was made with: {error}"
    )


def died(error: dict[str, Any]) -> RayWorkerCrashedError:
    """Return the error for a worker that ended under a transfer.

    :param error: what the cluster tells of it.
    """
    died = RayOutOfMemoryError if error["kind"] == FailureKind.OUT_OF_MEMORY else RayWorkerCrashedError
    return died(f"The process at the cluster's end of the transfer has died: {error['type']}: {error['message']}")
