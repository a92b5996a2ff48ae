"""The page in Airflow's navigation: the clusters, what is in each, and what waits there."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from airflow_ray.ui import access, records
from airflow_ray.ui.asking import ask_all
from airflow_ray.ui.questions import cluster_of
from airflow_ray.ui.rendering import rendered

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
async def show_clusters(request: Request, user: Any = access.USER) -> HTMLResponse:
    """Show the clusters whose connections the user may see, and what they hold of the DAGs that the user may read."""
    conn_ids = await run_in_threadpool(_visible, user)
    dag_ids = await run_in_threadpool(access.readable_dags, user)
    answers = await ask_all(conn_ids, lambda client: cluster_of(client, dag_ids))
    return rendered(request, "clusters.html", answers=answers)


def _visible(user: Any) -> list[str]:
    return [conn_id for conn_id in records.ray_connections() if access.may_see_connection(user, conn_id)]
