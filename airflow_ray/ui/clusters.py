"""The page in Airflow's navigation: the clusters, what is in each, and what waits there."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from airflow_ray.ui import access, records
from airflow_ray.ui.asking import SECONDS, ask
from airflow_ray.ui.questions import cluster_of, clusters_of
from airflow_ray.ui.rendering import rendered

if TYPE_CHECKING:
    from airflow_ray.client.connection.clusters import Cluster as ClusterOf
    from airflow_ray.ui.asking import Answer, LookingClient
    from airflow_ray.ui.questions import Cluster

# Of one connection: each is asked, and has a table.
MAX_CLUSTERS = 8

router = APIRouter()


@dataclass(frozen=True)
class Shown:
    """A connection as the page shows it.

    :param several: the clusters of a connection that leads to several, with what each has answered, or None where
        nobody tells which there are; for any other connection there is ``only`` in place of it.
    :param left_out: how many clusters more there are.
    :param problem: why nobody could tell which there are.
    """

    conn_id: str
    only: Answer[Cluster] | None = None
    several: list[tuple[ClusterOf, Answer[Cluster]]] | None = None
    left_out: int = 0
    problem: str | None = None


@router.get("/", response_class=HTMLResponse)
async def show_clusters(request: Request, user: Any = access.USER) -> HTMLResponse:
    """Show the clusters whose connections the user may see, and what they hold of the DAGs that the user may read."""
    connections = await run_in_threadpool(_visible, user)
    dag_ids = await run_in_threadpool(access.readable_dags, user)
    shown = await asyncio.gather(
        *(_several(conn_id, dag_ids) if is_several else _only(conn_id, dag_ids) for conn_id, is_several in connections)
    )
    return rendered(request, "clusters.html", connections=shown)


async def _only(conn_id: str, dag_ids: set[str]) -> Shown:
    return Shown(conn_id, only=await ask(conn_id, partial(_cluster_of, dag_ids)))


async def _several(conn_id: str, dag_ids: set[str]) -> Shown:
    """Ask Kubernetes which clusters there are, and then these, all of them before the deadline of the page."""
    deadline = time.monotonic() + SECONDS
    told = await ask(conn_id, clusters_of, seconds=SECONDS / 2, who="Kubernetes")
    if told.value is None:
        return Shown(conn_id, problem=told.problem)
    # The name of a cluster tells DAG and run.
    clusters = [each for each in told.value if each.dag_id in dag_ids]
    asked = clusters[:MAX_CLUSTERS]
    left = deadline - time.monotonic()
    question = partial(_cluster_of, dag_ids)
    answers = await asyncio.gather(*(ask(conn_id, question, (each.dag_id, each.run_id), left) for each in asked))
    return Shown(conn_id, several=list(zip(asked, answers, strict=True)), left_out=len(clusters) - len(asked))


def _visible(user: Any) -> list[tuple[str, bool]]:
    """Return the connections that a user may see, and whether each leads to several clusters."""
    connections = records.ray_connections().items()
    return [(conn_id, several) for conn_id, several in connections if access.may_see_connection(user, conn_id)]


def _cluster_of(dag_ids: set[str], client: LookingClient) -> Cluster:
    return cluster_of(client, dag_ids)
