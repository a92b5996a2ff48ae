"""The way back for objects that are lost: their checkpoints."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_ray._compat import in_task
from airflow_ray.client import errors
from airflow_ray.client.checkpoints.location import find_location
from airflow_ray.client.checkpoints.store import CheckpointStore
from airflow_ray.client.checkpoints.telling import of_producer

if TYPE_CHECKING:
    from typing import Any

    from airflow_ray.client.checkpoints.location import CheckpointLocation
    from airflow_ray.client.connection.link import Link
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)


def restore(link: Link, uris: list[ObjectURI], runtime_env: dict[str, Any] | None = None) -> None:
    """Bring lost objects back from their checkpoints.

    :param runtime_env: that of the work that needs them, which can read them.
    :raises RayObjectLostError: one has no checkpoint.
    :raises RayCheckpointError: one has a checkpoint that cannot be read.
    """
    wanted = []
    for uri in uris:
        location = checkpoint_of(link, uri)
        if location is None:
            raise errors.object_lost(uri, _reason_without_checkpoint(link))
        log.info("%s is not in the cluster any more: restoring it from %s", uri, location.path)
        wanted.append((uri.record_id, uri.key, location.target(uri.work)))
    started = time.monotonic()
    for uri, error in zip(uris, link.call("restore", wanted, runtime_env, link.settings.object_ttl), strict=True):
        if error is not None:
            raise errors.restore_error(uri, error)
    log.info("Restored what was lost in %.1f s", time.monotonic() - started)


def checkpoint_of(link: Link, uri: ObjectURI) -> CheckpointLocation | None:
    """Return where the checkpoint of a lost object should be.

    In a task, only what the producing task told counts: what else lies there may be of an earlier run.
    """
    return of_producer(uri, link.settings) if in_task() else find_location(link.settings)


def has_checkpoint(link: Link, uri: ObjectURI) -> bool:
    """Return whether there is a whole checkpoint of ``uri``."""
    location = checkpoint_of(link, uri)
    return location is not None and CheckpointStore(location).exists(uri)


def _reason_without_checkpoint(link: Link) -> str:
    reason = "its owner does not know it, and it has no checkpoint"
    if others := link.session.owners_of_other_versions():
        reason += (
            f"; but {', '.join(others)} of another version of airflow-ray may know it. Let all of Airflow "
            "use one version"
        )
    return reason
