"""An auth manager that knows DAGs and what is theirs apart, as Airflow's simple one does not."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

STRANGER = "stranger"


def who_may_not(method: str, entity: str) -> str:
    """Return the name of a user who may do what their role may but this.

    :param entity: name of one of ``DagAccessEntity``.
    """
    return f"may not {method} {entity}"


class TellingApartAuthManager(SimpleAuthManager):
    """Lets the stranger read no DAG, others not do what their names say, and all what their roles may beside it."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        refused = {STRANGER} if access_entity is None else {STRANGER, who_may_not(method, access_entity.name)}
        return user.username not in refused and super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )

    def filter_authorized_dag_ids(self, *, dag_ids: set[str], user: Any, **more: Any) -> set[str]:
        return set() if user.username == STRANGER else dag_ids
