"""What Airflow lets a person do: each question of that kind is put to Airflow's own authorisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

from airflow_ray._compat import conf

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod

# The user who asks, as Airflow knows them; who is not logged in is refused.
USER = Depends(get_user)
MAY_SEE_RUN = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
MAY_SEE_TASK = Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))
# Objects are what tasks hand to each other.
MAY_SEE_VALUES = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))
MAY_RELEASE = Depends(requires_access_dag("PUT", DagAccessEntity.RUN))
MAY_CANCEL = Depends(requires_access_dag("PUT", DagAccessEntity.TASK_INSTANCE))


def may(user: Any, method: ResourceMethod, entity: DagAccessEntity, dag_id: str) -> bool:
    """Whether a person may do that to what a DAG has of that kind; of a DAG that is gone, what those of any may."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)


def may_release(user: Any, dag_id: str) -> bool:
    """Whether a person may release the objects of a DAG."""
    return may(user, "PUT", DagAccessEntity.RUN, dag_id)


def may_cancel(user: Any, dag_id: str) -> bool:
    """Whether a person may cancel the work of a DAG."""
    return may(user, "PUT", DagAccessEntity.TASK_INSTANCE, dag_id)


def may_see_values(user: Any, dag_id: str) -> bool:
    """Whether a person may see what is in the objects of a DAG."""
    return may(user, "GET", DagAccessEntity.XCOM, dag_id)


def may_see_logs(user: Any, dag_id: str) -> bool:
    """Whether a person may read the logs of a DAG's tasks."""
    return may(user, "GET", DagAccessEntity.TASK_LOGS, dag_id)


def may_see_connection(user: Any, conn_id: str) -> bool:
    """Whether a person may see a connection."""
    details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return get_auth_manager().is_authorized_connection(method="GET", details=details, user=user)


def readable_dags(user: Any) -> set[str]:
    """Return the ids of the DAGs that a person may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def require_same_origin(request: Request) -> None:
    """Refuse what another site lets a browser send with the cookie of Airflow.

    :raises HTTPException: the request does not come from a page of this server.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_own = site == "same-origin"
    else:
        # A browser tells the site over HTTPS only, and the origin of a form always.
        origin = urlsplit(request.headers.get("origin", ""))
        own = [urlsplit(str(request.base_url)), urlsplit(conf.get("api", "base_url", fallback="") or "")]
        is_own = bool(origin.netloc) and any(origin[:2] == each[:2] for each in own)
    if not is_own:
        raise HTTPException(403, "This was not sent by a page of this Airflow, and nothing was done.")


FROM_OWN_PAGE = Depends(require_same_origin)
