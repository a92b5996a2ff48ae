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
from airflow_ray.client.connection.clusters import cluster_of
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import is_passing
from airflow_ray.exceptions import RayClusterGoneError, RayObjectLostError

if TYPE_CHECKING:
    from typing import Any

    from airflow_ray.client.checkpoints.location import CheckpointLocation
    from airflow_ray.client.connection.link import Link
    from airflow_ray.exceptions import RayConnectionError
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
            raise _lost_without_checkpoint(link, uri)
        log.info("%s is not in the cluster any more: restoring it from %s", uri, location.path)
        wanted.append((uri.record_id, uri.key, location.target(uri.work)))
    started = time.monotonic()
    # What is there already is not read once more.
    found = link.call("restore", wanted, runtime_env, link.settings.object_ttl)
    for uri, error in zip(uris, found, strict=True):
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


def from_gone_cluster(link: Link, uri: ObjectURI, error: RayConnectionError) -> Any:
    """Return an object of a cluster that comes and goes and is not there, from its checkpoint, read by this process.

    :param error: why the cluster cannot be reached.
    :raises AirflowRayError: as :func:`require_checkpoint`.
    :raises RayCheckpointError: the checkpoint cannot be read.
    """
    location = require_checkpoint(link, uri, error)
    log.warning("%s Reading %s from its checkpoint in %s instead", sentence_of(error), uri, location.path)
    return CheckpointStore(location).load(uri)


def require_checkpoint(link: Link, uri: ObjectURI, error: RayConnectionError) -> CheckpointLocation:
    """Return where the checkpoint of an object is whose cluster comes and goes, and is not there.

    :param error: why the cluster cannot be reached; it is raised where that is for another reason, or where the cluster
        is that of all runs, which comes back.
    :raises RayObjectLostError: the cluster is gone, and there is no checkpoint.
    :raises RayConnectionError: the cluster does not answer, and there is no checkpoint.
    """
    is_gone = isinstance(error, RayClusterGoneError)
    if link.settings.cluster.is_shared or not (is_gone or is_passing(error)):
        raise error
    location = checkpoint_of(link, uri)
    if location is not None and CheckpointStore(location).exists(uri):
        return location
    if is_gone:
        raise errors.object_lost(uri, f"{sentence_of(error)} It has no checkpoint") from error
    raise type(error)(f"{sentence_of(error)} Nor has {uri} a checkpoint, from which it could be read") from error


def _lost_without_checkpoint(link: Link, uri: ObjectURI) -> RayObjectLostError:
    own, its = link.settings.cluster, cluster_of(link.connection, uri.dag_id, uri.run_id)
    if own != its:
        return RayObjectLostError(
            f"There is no object {uri} in {own}: it belongs to {its}, and has no checkpoint from which it could be "
            f"restored here. Set checkpoint=True for task {uri.task_id!r} of DAG {uri.dag_id!r} and clear it in run "
            f"{uri.run_id!r}, or let all of them use one cluster"
        )
    reason = "its owner does not know it, and it has no checkpoint"
    if others := link.session.owners_of_other_versions():
        reason += (
            f"; but {', '.join(others)} of another version of airflow-ray may know it. Let all of Airflow "
            "use one version"
        )
    return errors.object_lost(uri, reason)
