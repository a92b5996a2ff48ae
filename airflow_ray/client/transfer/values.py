"""Whole values on their way to the cluster and back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.client.transfer.pieces import LARGE_DOWNLOAD_BYTES, LARGE_UPLOAD_BYTES, Download, Transfer, Upload
from airflow_ray.cluster.values.inner_objects import without_objects
from airflow_ray.cluster.values.pieces import Departing
from airflow_ray.exceptions import RayConnectionError, RayPicklingError

if TYPE_CHECKING:
    from airflow_ray.client.connection.ray_session import RaySession
    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)


def send(session: RaySession, value: Any, connect_again: ConnectAgain | None = None) -> Any:
    """Return what the owner knows a value by: its ref, or the name of its upload.

    :param connect_again: for a connection that breaks under an upload in pieces; None puts the value at once.
    :raises RayPicklingError: it cannot be pickled, or not be unpickled on the cluster.
    """
    import ray

    def put() -> Any:
        with pickle_by_value(importable_modules_of_user()):
            departing = Departing(value) if connect_again else None
            return departing if departing and departing.pieces.bytes >= LARGE_UPLOAD_BYTES else ray.put(value)

    try:
        sent = session.run(put)
        if connect_again is None or not isinstance(sent, Departing):
            return sent
        upload = Upload(sent, type(value).__name__, log.info)
        move(session, upload, connect_again)
        return upload.name
    except (TypeError, AttributeError, ValueError) as error:
        raise RayPicklingError(
            f"A value of type {type(value).__name__} cannot be pickled, so it cannot be placed in Ray's "
            f"object store: {error}"
        ) from error
    # The process that serves a Ray Client unpickles what it is sent.
    except ImportError as error:
        raise RayPicklingError(
            f"A value of type {type(value).__name__} cannot be unpickled on the Ray cluster, which needs the "
            f"packages it was made with: {error}"
        ) from error


def fetch(session: RaySession, uri: ObjectURI, ref: Any, size: int, connect_again: ConnectAgain | None = None) -> Any:
    """Return the object of a ref.

    :param size: in bytes, as far as it is known.
    :param connect_again: for a connection that breaks under a download in pieces; None gets the value at once.
    :raises RayObjectLostError: it is gone.
    :raises RayPicklingError: it cannot be unpickled in this process.
    """
    import ray
    from ray.exceptions import ObjectLostError, RaySystemError

    keep_identities()
    try:
        if connect_again and size >= LARGE_DOWNLOAD_BYTES:
            download = Download(uri, ref, log.info)
            session, is_there = move(session, download, connect_again)
            if is_there:
                return session.run(download.value)
        return session.run(lambda: ray.get(ref))
    except ObjectLostError as lost:
        raise errors.object_lost(uri, str(lost)) from lost
    except (RaySystemError, ImportError) as unreadable:
        raise RayPicklingError(
            f"{uri} cannot be unpickled in this process, which needs the packages it was made with: {unreadable}"
        ) from unreadable


def take_apart(session: RaySession, value: Any) -> tuple[Any, list[Any]]:
    """Return a value without the Ray objects inside it, which end with this connection, and their refs."""
    # A large payload, say, which need not be pickled once more to know this.
    if isinstance(value, bytes):
        return value, []

    def apart() -> tuple[Any, list[Any]]:
        with pickle_by_value(importable_modules_of_user()):
            return without_objects(value)

    return session.run(apart)


def move(session: RaySession, transfer: Transfer, connect_again: ConnectAgain) -> tuple[RaySession, bool]:
    """Run a transfer over as many connections as it takes, if each of them gets on with it.

    :returns: the last of them, and whether the value could be moved in pieces at all.
    """
    moved = -1
    while True:
        try:
            return session, transfer.run(session)
        except RayConnectionError as error:
            if transfer.moved == moved:
                raise
            moved = transfer.moved
            session = connect_again(error)
