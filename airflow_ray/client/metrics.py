"""What Airflow's own statistics are told of Ray: by connection, from what has come from the cluster anyway."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import has_legacy_stat_names, stats
from airflow_ray.exceptions import AirflowRayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.clusters import Cluster
    from airflow_ray.client.connection.link import Link
    from airflow_ray.object_uri import ObjectURI

GAUGES = ("waiting", "running", "bytes_held", "bytes_spilled")
# Airflow drops a metric whose name has anything else, and a tag may become part of that.
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_.-]")


def tell_totals(cluster: Cluster, totals: dict[str, Any] | None) -> None:
    """Tell how much work waits and runs in a cluster, and what is held there.

    A connection with a cluster for each run has no such figures: those of one would hide those of another.

    :param totals: as they come with news, see :class:`~airflow_ray.cluster.protocol.OwnerTotals`; the owner of an
        earlier release tells none.
    """
    if totals is None or not cluster.is_shared:
        return
    for name in GAUGES:
        if (value := totals.get(name)) is not None:
            for stat, tags in _named(name, cluster.conn_id, {}):
                stats().gauge(stat, value, tags=tags)


def ask_totals(link: Link) -> None:
    """Ask a cluster for them, where something has changed of which no news comes, and tell them if it answers."""
    # It may be gone, with what has changed there.
    with suppress(AirflowRayError):
        # There is no work of that name, so the answer comes at once.
        if link.settings.cluster.is_shared:
            tell_totals(link.settings.cluster, link.call_same("poll", "", 0, 0.0).get("totals"))


def tell_end(uri: ObjectURI, record: dict[str, Any]) -> None:
    """Tell how long the work of a task has waited, and how many of its inputs had to be made again.

    :param uri: of the work.
    :param record: of the work, which has ended.
    """
    tags = {"dag_id": uri.dag_id, "task_id": uri.task_id}
    submitted, started = record.get("submitted_at"), record.get("started_at")
    if submitted is not None and started is not None:
        queued = timedelta(seconds=max(0.0, started - submitted))
        for stat, of_stat in _named("queued_duration", uri.conn_id, tags):
            stats().timing(stat, queued, tags=of_stat)
    sources = Counter(each["source"] for each in record.get("inputs", ()))
    del sources["store"]
    for source, count in sources.items():
        for stat, of_stat in _named("restores", uri.conn_id, {**tags, "source": source}):
            stats().incr(stat, count, tags=of_stat)


def _named(name: str, conn_id: str, tags: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield under which names and with which tags something is told, as Airflow does with its own."""
    conn_id, *values = (_NOT_IN_NAMES.sub("_", text) for text in (conn_id, *tags.values()))
    tags = dict(zip(tags, values, strict=True))
    yield f"ray.{name}", {"conn_id": conn_id, **tags}
    if has_legacy_stat_names():
        # A dot would begin another level.
        yield f"ray.{name}.{conn_id.replace('.', '__')}", tags
