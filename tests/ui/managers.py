"""An auth manager that knows DAGs apart, as Airflow's simple one does not."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

STRANGER = "stranger"


class OneStrangerAuthManager(SimpleAuthManager):
    """Lets the user of that name read no DAG, and all others what their roles may."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        return user.username != STRANGER and super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )

    def filter_authorized_dag_ids(self, *, dag_ids: set[str], user: Any, **more: Any) -> set[str]:
        return set() if user.username == STRANGER else dag_ids
