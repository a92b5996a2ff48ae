"""Whole values on their way to the cluster and back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.by_value import pickled_by_value
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.client.transfer.pieces import LARGE_DOWNLOAD_BYTES, LARGE_UPLOAD_BYTES, Download, Transfer, Upload
from airflow_ray.cluster.values.inner_objects import without_objects
from airflow_ray.cluster.values.pieces import Departing
from airflow_ray.exceptions import RayConnectionError, RayPicklingError

if TYPE_CHECKING:
    from airflow_ray.client.connection.link import Link
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)


def send(link: Link, value: Any, in_pieces: bool = True) -> Any:
    """Return what the owner knows a value by: its ref, or the name of its upload.

    :param in_pieces: whether it may be taken to pieces, which Ray's objects inside it cannot.
    :raises RayPicklingError: it cannot be pickled, or not be unpickled on the cluster.
    """
    import ray

    in_pieces = in_pieces and link.is_client

    def put() -> Any:
        with pickled_by_value(importable_modules_of_user()):
            departing = Departing(value) if in_pieces else None
            return departing if departing and departing.pieces.bytes >= LARGE_UPLOAD_BYTES else ray.put(value)

    try:
        sent = link.session.run(put)
        if not isinstance(sent, Departing):
            return sent
        upload = Upload(sent, type(value).__name__, log.info)
        _move(link, upload)
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


def fetch(link: Link, uri: ObjectURI, ref: Any, size: int) -> Any:
    """Return the object of a ref.

    :param size: in bytes, as far as it is known.
    :raises RayObjectLostError: it is gone.
    :raises RayPicklingError: it cannot be unpickled in this process.
    """
    import ray
    from ray.exceptions import ObjectLostError, RaySystemError

    keep_identities()
    try:
        if link.is_client and size >= LARGE_DOWNLOAD_BYTES:
            download = Download(uri, ref, log.info)
            if _move(link, download):
                return link.session.run(download.value)
        return link.session.run(lambda: ray.get(ref))
    except ObjectLostError as lost:
        raise errors.object_lost(uri, str(lost)) from lost
    except (RaySystemError, ImportError) as unreadable:
        raise RayPicklingError(
            f"{uri} cannot be unpickled in this process, which needs the packages it was made with: {unreadable}"
        ) from unreadable


def take_apart(link: Link, value: Any) -> tuple[Any, list[Any]]:
    """Return a value without the Ray objects inside it, which end with this connection, and their refs."""

    def apart() -> tuple[Any, list[Any]]:
        with pickled_by_value(importable_modules_of_user()):
            return without_objects(value)

    return link.session.run(apart)


def _move(link: Link, transfer: Transfer) -> bool:
    """Run a transfer over as many connections as it takes, if each of them gets on with it."""
    moved = -1
    while True:
        try:
            return transfer.run(link.session)
        except RayConnectionError as error:
            if transfer.moved == moved:
                raise
            moved = transfer.moved
            link.connect_again(error)
