"""Which clusters nobody needs any more, and their end."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray._compat import is_run_unfinished
from airflow_ray.client.kuberay.origin import kept_since, made_at, name_of, run_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_ray.client.kuberay.clusters import Clusters

log = logging.getLogger(__name__)

# For somebody to mend what keeps checkpoints from being written.
KEPT = timedelta(days=1)


class Pruned(NamedTuple):
    """A cluster that nobody needs.

    :param reason: why, in words.
    """

    name: str
    reason: str


def reason_to_prune(
    cluster: Mapping[str, Any], older_than: timedelta | None, now: datetime | None = None
) -> str | None:
    """Return why nobody needs a cluster any more, or None for one that is needed.

    :param older_than: the age from which nobody is believed to need it; None has no such age.
    :param now: the time; None for that of this machine.
    :raises AirflowException: Airflow does not tell how its run is.
    """
    now = now or datetime.now(timezone.utc)
    age = now - made_at(cluster)
    if older_than is not None and age > older_than:
        return f"it is {age.total_seconds() / 3600:.1f} hours old"
    run, kept = run_of(cluster), kept_since(cluster)
    if kept is not None and now - kept < KEPT:
        return None
    if run is None or is_run_unfinished(*run):
        return None
    dag_id, run_id = run
    return f"run {run_id!r} of DAG {dag_id!r} has ended, or is not there any more"


def prune(clusters: Clusters, older_than: timedelta | None) -> list[Pruned]:
    """Delete the clusters that this Airflow installation has made and nobody needs any more, and return them.

    :param older_than: as for :func:`reason_to_prune`.
    :raises RayClusterError: Kubernetes refuses; the subclass tells why.
    """
    pruned = []
    for cluster in clusters.own():
        # Asked for each only now: a run may be cleared meanwhile.
        reason = reason_to_prune(cluster, older_than)
        if reason is not None and clusters.delete(cluster):
            log.info("Deleted the Ray cluster %s, since %s", name_of(cluster), reason)
            pruned.append(Pruned(name_of(cluster), reason))
    return pruned
