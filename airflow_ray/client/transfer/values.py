"""Whole values on their way to the cluster and back, as Ray itself moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.connection.threads import await_telling
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.client.transfer import failures
from airflow_ray.client.transfer.waiting import WaitForObject
from airflow_ray.cluster.failures import failure_of, lost_errors
from airflow_ray.cluster.values.inner_objects import without_objects
from airflow_ray.exceptions import RayPicklingError

if TYPE_CHECKING:
    from airflow_ray.client.connection.ray_session import RaySession
    from airflow_ray.object_uri import ObjectURI


def take_apart(session: RaySession, value: Any) -> tuple[Any, list[Any]]:
    """Return a value without the Ray objects inside it, which end with this connection, and their refs."""
    # A large payload, say, which need not be pickled once more to know this.
    if isinstance(value, bytes):
        return value, []

    def apart() -> tuple[Any, list[Any]]:
        with pickle_by_value(importable_modules_of_user()):
            return without_objects(value)

    return session.run(apart)


def put(session: RaySession, value: Any) -> Any:
    """Put a value into the object store, and return its ref.

    :param value: without Ray objects inside.
    :raises RayPicklingError: it cannot be pickled, or not be unpickled on the cluster.
    """
    import ray

    def ref() -> Any:
        with pickle_by_value(importable_modules_of_user()), session.translate_errors():
            return ray.put(value)

    try:
        return session.run(ref)
    except (TypeError, AttributeError, ValueError) as error:
        raise failures.not_picklable(value, error) from error
    # The process that serves a Ray Client unpickles what it is sent.
    except ImportError as error:
        raise RayPicklingError(
            f"A value of type {type(value).__name__} cannot be unpickled on the Ray cluster, which needs the "
            f"packages it was made with: {error}"
        ) from error


def fetch(session: RaySession, uri: ObjectURI, ref: Any) -> Any:
    """Return the object of a ref.

    :raises RayObjectLostError: it is gone.
    :raises RayPicklingError: it cannot be unpickled in this process.
    """
    import ray
    from ray.exceptions import RaySystemError, TaskCancelledError

    keep_identities()

    def get() -> Any:
        with session.translate_errors():
            return ray.get(ref)

    try:
        return await_telling(session.start(get), WaitForObject(session, uri).tell)
    # The work that was to make it again has been given up.
    except (*lost_errors(), TaskCancelledError) as lost:
        raise errors.object_lost(uri, failure_of(lost)["message"]) from lost
    except (RaySystemError, ImportError) as unreadable:
        raise failures.not_readable_here(uri, unreadable) from unreadable
