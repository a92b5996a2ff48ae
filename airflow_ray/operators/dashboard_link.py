"""The button that leads from a task to its page in the Ray dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseOperator, BaseOperatorLink, pull_xcom

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey


class RayDashboardLink(BaseOperatorLink):
    """Leads to the page of the remote work; the operator stores its address when the work is submitted."""

    name = "Ray dashboard"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or an empty text where the cluster runs no dashboard.

        :param operator: the operator.
        :param ti_key: its task instance.
        """
        address: Any = pull_xcom(
            self.xcom_key,
            dag_id=ti_key.dag_id,
            run_id=ti_key.run_id,
            task_id=ti_key.task_id,
            map_index=ti_key.map_index,
        )
        # Whoever may write an XCom must not choose what a browser runs.
        return address if str(address).startswith(("http://", "https://")) else ""
