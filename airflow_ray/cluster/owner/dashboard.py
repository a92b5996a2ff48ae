"""Where the Ray dashboard shows a task."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ray.cluster.protocol import DashboardPage

CONNECT_SECONDS = 1.0
# The dashboard of a head is started once; whether it is there is asked for all submissions of a while.
KNOWN_SECONDS = 60.0


class Dashboard:
    """Knows the address of the dashboard, if the cluster runs one."""

    def __init__(self) -> None:
        self._address: asyncio.Task[str] | None = None
        self._asked_at = float("-inf")

    async def page(self, task_id: str) -> DashboardPage:
        """Return the page of a task."""
        import ray

        if self._address is None or time.monotonic() > self._asked_at + KNOWN_SECONDS:
            self._asked_at = time.monotonic()
            self._address = asyncio.get_running_loop().create_task(_address())
        address = await asyncio.shield(self._address)
        return {"address": address, "job_id": ray.get_runtime_context().get_job_id(), "task_id": task_id}


async def _address() -> str:
    """Return the address of the dashboard, or an empty text where there is none that answers."""
    import ray

    try:
        return await _answering(await asyncio.to_thread(ray._private.worker.get_dashboard_url))
    # Work that has begun does not fail for want of a link.
    except Exception:
        return ""


async def _answering(address: str | None) -> str:
    """Return ``address`` if somebody listens there, or else an empty text: Ray names one without a dashboard too."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():
        return ""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_SECONDS)
    except (OSError, asyncio.TimeoutError):
        return ""
    writer.close()
    return f"{host}:{port}"
