"""What the commands do that see to Ray clusters on Kubernetes."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_ray.cli.framing import command
from airflow_ray.cli.output import say, show
from airflow_ray.client.doctor import quantity, readable_seconds
from airflow_ray.client.kuberay.clusters import Clusters
from airflow_ray.client.kuberay.origin import made_at, name_of, namespace_of, run_of
from airflow_ray.client.kuberay.pruning import reason_to_prune
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from argparse import Namespace


@command
def list_clusters(args: Namespace) -> None:
    """List the clusters that this Airflow installation has made."""
    limit = _limit(args)
    rows = [_row(cluster, limit) for cluster in _clusters(args).own()]
    show(rows, args.output, [_readable(row) for row in rows])


@command
def prune(args: Namespace) -> None:
    """Delete the clusters that nobody needs any more."""
    clusters, limit = _clusters(args), _limit(args)
    needless = [cluster for cluster in clusters.own() if reason_to_prune(cluster, limit) is not None]
    if not needless or not (args.yes or _user_agrees(needless)):
        say("No cluster was deleted")
        return
    deleted = 0
    for cluster in needless:
        # Once more: a run may be cleared while somebody thinks about it.
        reason = reason_to_prune(cluster, limit)
        if reason is not None and clusters.delete(cluster):
            say(f"{name_of(cluster)}  {reason}")
            deleted += 1
    say(f"Deleted {quantity(deleted, 'cluster')}")


def _clusters(args: Namespace) -> Clusters:
    return Clusters.of(args.kubernetes_conn_id, args.namespace)


def _limit(args: Namespace) -> timedelta | None:
    if args.older_than is None:
        return None
    if not args.older_than > 0:
        raise RayConfigurationError(f"--older-than must be a number of hours over 0, got {args.older_than:g}")
    return timedelta(hours=args.older_than)


def _row(cluster: dict[str, Any], limit: timedelta | None) -> dict[str, Any]:
    dag_id, run_id = run_of(cluster) or (None, None)
    return {
        "name": name_of(cluster),
        "namespace": namespace_of(cluster),
        "state": (cluster.get("status") or {}).get("state") or None,
        "dag_id": dag_id,
        "run_id": run_id,
        "age": time.time() - made_at(cluster).timestamp(),
        "needless": reason_to_prune(cluster, limit),
    }


def _readable(row: dict[str, Any]) -> dict[str, str]:
    return {name: each or "" for name, each in row.items()} | {"age": readable_seconds(row["age"])}


def _user_agrees(needless: list[dict[str, Any]]) -> bool:
    for cluster in needless:
        say(name_of(cluster))
    try:
        return input(f"Delete {quantity(len(needless), 'cluster')}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        say()
        return False
