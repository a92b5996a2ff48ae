"""What a cluster holds that is about to be deleted."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_ray.client.errand import checkpoint, without_checkpoint
from airflow_ray.client.kuberay.api import is_away
from airflow_ray.client.kuberay.origin import KEPT_ANNOTATION, name_of, uid_of
from airflow_ray.client.kuberay.state import is_head_running
from airflow_ray.exceptions import AirflowRayError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from airflow_ray.client.client import RayClient
    from airflow_ray.client.kuberay.clusters import Clusters

log = logging.getLogger(__name__)

_KEPT = (
    "The Ray cluster %s stays, since not all of its objects may have a checkpoint. Clear this task when what the error "
    "names is mended"
)


def keep_objects(clusters: Clusters, cluster: dict[str, Any], client: RayClient, writes: bool) -> None:
    """Write the checkpoint of each object that has none, or warn of those.

    :param clusters: of its namespace.
    :param cluster: the cluster.
    :param client: leads to it.
    :param writes: whether they are written.
    :raises AirflowRayError: they are, and one could not be; then the cluster is noted as one that is kept.
    """
    name = name_of(cluster)
    try:
        if not is_head_running(cluster, clusters.find_pods(name, uid_of(cluster))):
            log.info("The Ray cluster %s holds no objects, since its head does not run", name)
            return
        with client.connect() as connected:
            lost = without_checkpoint(connected.list_objects())
            for uri in lost if writes else ():
                log.info("The checkpoint of %s is at %s", uri, checkpoint(connected, ObjectURI.parse(uri)))
    except AirflowRayError as error:
        if not writes:
            log.warning("What goes with the Ray cluster %s is not known: %s", name, error)
            return
        log.error(_KEPT, name)
        if not is_away(error):
            _note_kept(clusters, cluster)
        raise
    if lost and not writes:
        text = "With the Ray cluster %s go %d objects that have no checkpoint:\n%s"
        log.warning(text, name, len(lost), "\n".join(lost))


def _note_kept(clusters: Clusters, cluster: dict[str, Any]) -> None:
    try:
        clusters.annotate(cluster, KEPT_ANNOTATION, datetime.now(timezone.utc).isoformat())
    # What the user should read is why it is kept.
    except AirflowRayError as error:
        log.warning("airflow ray clusters prune deletes it when its run has ended: it could not be noted: %s", error)
    else:
        log.info("airflow ray clusters prune leaves it for a day")
