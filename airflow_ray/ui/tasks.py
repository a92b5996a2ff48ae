"""The page on a task instance: its work, what that was given and has made, and its end by a person."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from airflow_ray.ui import access, records
from airflow_ray.ui.asking import ask, ask_all, within
from airflow_ray.ui.questions import preview_of, work_of
from airflow_ray.ui.rendering import Links, rendered
from airflow_ray.ui.runs import PATH, own_uri, require_used

if TYPE_CHECKING:
    from airflow_ray.client.client import RayClient
    from airflow_ray.object_uri import ObjectURI
    from airflow_ray.ui.questions import Work

TAIL_LINES = 200

router = APIRouter(prefix=f"{PATH}/tasks/{{task_id}}/{{map_index}}")


@router.get("", response_class=HTMLResponse, dependencies=[access.MAY_SEE_TASK])
async def show_task(
    request: Request,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: str,
    cancelled: bool | None = None,
    user: Any = access.USER,
) -> HTMLResponse:
    """Show the work of a task instance.

    :param map_index: of a task that is not mapped, Airflow's UI has the name of this in its place.
    :param cancelled: whether work has just been cancelled.
    """
    where = dag_id, run_id, task_id, _index(map_index)
    conn_ids = await run_in_threadpool(records.connections_of, *where)
    may_see_logs = await run_in_threadpool(access.may_see_logs, user, dag_id)
    reading = within(partial(records.log_tail, *where, TAIL_LINES)) if may_see_logs else _nothing()
    answers, log = await asyncio.gather(ask_all(conn_ids, partial(_work_of, *where), where[:2]), reading)
    works = [each for answer in answers for each in answer.value or ()]
    inputs = {uri.dag_id for work in works for uri, _ in work.inputs}
    visible = {dag_id: await run_in_threadpool(access.may_see_values, user, dag_id) for dag_id in {*inputs, dag_id}}
    return rendered(
        request,
        "task.html",
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=where[3],
        answers=answers,
        cancelled=cancelled,
        goes_on=await run_in_threadpool(records.is_under_way, dag_id, run_id),
        dashboard=await run_in_threadpool(records.dashboard_url, *where),
        may_cancel=await run_in_threadpool(access.may_cancel, user, dag_id),
        may_release=await run_in_threadpool(access.may_release, user, dag_id),
        log=log,
        visible=visible,
    )


@router.get("/rows", response_class=HTMLResponse, dependencies=[access.MAY_SEE_VALUES])
async def show_rows(request: Request, dag_id: str, run_id: str, task_id: str, map_index: str, uri: str) -> HTMLResponse:
    """Show the columns and first rows of an object."""
    chosen = await _chosen(uri, dag_id, run_id, task_id, map_index)
    answer = await ask(chosen.conn_id, partial(_preview_of, chosen), (dag_id, run_id))
    return rendered(request, "rows.html", uri=chosen, answer=answer)


@router.get("/cancel", response_class=HTMLResponse, dependencies=[access.MAY_CANCEL])
async def ask_before_cancel(
    request: Request, dag_id: str, run_id: str, task_id: str, map_index: str, uri: str
) -> HTMLResponse:
    """Ask whether to cancel work."""
    chosen = await _chosen(uri, dag_id, run_id, task_id, map_index)
    return rendered(request, "cancel.html", uri=chosen)


@router.post("/cancel", dependencies=[access.FROM_OWN_PAGE, access.MAY_CANCEL])
async def cancel(request: Request, dag_id: str, run_id: str, task_id: str, map_index: str, uri: str = Form()) -> Any:
    """Cancel work with all that it has started."""
    chosen = await _chosen(uri, dag_id, run_id, task_id, map_index)
    answer = await ask(chosen.conn_id, partial(_cancel, chosen), (dag_id, run_id))
    if answer.problem:
        return rendered(request, "refused.html", 503, words=answer.problem)
    here = Links(request.scope["root_path"]).task(chosen)
    return RedirectResponse(f"{here}?cancelled={bool(answer.value)}", 303)


async def _nothing() -> list[str]:
    return []


async def _chosen(uri: str, dag_id: str, run_id: str, task_id: str, map_index: str) -> ObjectURI:
    """Return the object URI that a request names, of that task instance."""
    chosen = own_uri(uri, dag_id, run_id)
    if (chosen.task_id, chosen.map_index) != (task_id, _index(map_index)):
        raise HTTPException(404, "There is no such object of this task.")
    require_used(chosen, await run_in_threadpool(records.connections_of, dag_id, run_id))
    return chosen


def _index(map_index: str) -> int:
    # A number that a database has room for.
    return int(map_index) if re.fullmatch("[0-9]{1,9}", map_index) else -1


def _work_of(dag_id: str, run_id: str, task_id: str, map_index: int, client: RayClient) -> list[Work]:
    return work_of(client, dag_id, run_id, task_id, map_index)


def _preview_of(uri: ObjectURI, client: RayClient) -> dict[str, Any]:
    return preview_of(client, uri)


def _cancel(uri: ObjectURI, client: RayClient) -> bool:
    return client.cancel(uri)
