"""The page on a DAG run: its objects, and their release."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from airflow_ray.exceptions import ObjectURIError
from airflow_ray.object_uri import ObjectURI
from airflow_ray.ui import access, records
from airflow_ray.ui.asking import ask_all
from airflow_ray.ui.questions import objects_of, total_bytes
from airflow_ray.ui.rendering import Links, rendered

if TYPE_CHECKING:
    from airflow_ray.client.client import RayClient
    from airflow_ray.ui.asking import Answer
    from airflow_ray.ui.questions import HeldObject

PATH = "/dags/{dag_id}/runs/{run_id}"
# Of one cluster: more than that nobody reads, and the API server would be busy with it.
MAX_ROWS = 500

router = APIRouter(prefix=PATH)


@router.get("", response_class=HTMLResponse, dependencies=[access.MAY_SEE_RUN])
async def show_run(
    request: Request, dag_id: str, run_id: str, released: int | None = None, user: Any = access.USER
) -> HTMLResponse:
    """Show what each cluster that a run has used holds of it.

    :param released: how many objects have just been released.
    """
    answers = await _objects(dag_id, run_id)
    held = [each for answer in answers for each in answer.value or ()]
    return rendered(
        request,
        "run.html",
        dag_id=dag_id,
        run_id=run_id,
        answers=answers,
        total=total_bytes(held),
        goes_on=await run_in_threadpool(records.is_under_way, dag_id, run_id),
        released=released,
        max_rows=MAX_ROWS,
        may_release=await run_in_threadpool(access.may_release, user, dag_id),
        may_see_values=await run_in_threadpool(access.may_see_values, user, dag_id),
    )


@router.get("/release", response_class=HTMLResponse, dependencies=[access.MAY_RELEASE])
async def ask_before_release(request: Request, dag_id: str, run_id: str, uri: str = "") -> HTMLResponse:
    """Ask whether to release the objects of one task instance, or without a URI those of the run."""
    chosen = own_uri(uri, dag_id, run_id) if uri else None
    answers = await _objects(dag_id, run_id)
    held = [each for answer in answers for each in answer.value or ()]
    if chosen is not None:
        held = [each for each in held if each.uri.work == chosen.work]
    return rendered(
        request,
        "release.html",
        dag_id=dag_id,
        run_id=run_id,
        uri=chosen,
        held=held,
        max_rows=MAX_ROWS,
        number=sum(each.type is not None for each in held),
        total=total_bytes(held),
        problems=[answer for answer in answers if answer.problem],
    )


@router.post("/release", dependencies=[access.FROM_OWN_PAGE, access.MAY_RELEASE])
async def release(request: Request, dag_id: str, run_id: str, uri: str = Form("")) -> Any:
    """Release the objects of one task instance, or without a URI those of the run."""
    conn_ids = await run_in_threadpool(records.connections_of, dag_id, run_id)
    if uri:
        chosen = own_uri(uri, dag_id, run_id)
        require_used(chosen, conn_ids)
        answers = await ask_all([chosen.conn_id], partial(_release_one, chosen), (dag_id, run_id))
    else:
        answers = await ask_all(conn_ids, partial(_release_run, dag_id, run_id), (dag_id, run_id))
    problems = [answer.problem for answer in answers if answer.problem]
    # Beside a cluster that has answered, the page of the run tells of one that has not.
    if problems and len(problems) == len(answers):
        return rendered(request, "refused.html", 503, words=" ".join(problems))
    number = sum(len(answer.value or ()) for answer in answers)
    here = Links(request.scope["root_path"]).run(dag_id, run_id)
    return RedirectResponse(f"{here}?released={number}", 303)


def own_uri(text: str, dag_id: str, run_id: str) -> ObjectURI:
    """Return the object URI that a request names.

    :raises HTTPException: it is none, or of another DAG or run, of which nobody has been asked whether it may be done.
    """
    try:
        uri = ObjectURI.parse(text)
    except ObjectURIError as error:
        raise HTTPException(404, "There is no such object.") from error
    if (uri.dag_id, uri.run_id) != (dag_id, run_id):
        raise HTTPException(404, "There is no such object in this run.")
    return uri


def require_used(uri: ObjectURI, conn_ids: list[str]) -> None:
    """Make sure that an object is in a cluster that its run has used.

    :raises HTTPException: it is not: the connection of any other cluster is nothing to who may read a DAG.
    """
    if uri.conn_id not in conn_ids:
        raise HTTPException(404, "The run has not used that connection.")


async def _objects(dag_id: str, run_id: str) -> list[Answer[list[HeldObject]]]:
    conn_ids = await run_in_threadpool(records.connections_of, dag_id, run_id)
    return await ask_all(conn_ids, partial(_objects_of_run, dag_id, run_id), (dag_id, run_id))


def _objects_of_run(dag_id: str, run_id: str, client: RayClient) -> list[HeldObject]:
    return objects_of(client, dag_id, run_id)


def _release_one(uri: ObjectURI, client: RayClient) -> list[ObjectURI]:
    return client.release(uri)


def _release_run(dag_id: str, run_id: str, client: RayClient) -> list[ObjectURI]:
    return client.release(dag_id=dag_id, run_id=run_id)
