"""What brings the Ray page into Airflow's UI; named by the entry point ``airflow.plugins``.

Each process of Airflow's imports this, so all else is imported when the page is first opened.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastapi import FastAPI

    Message = MutableMapping[str, Any]

URL_PREFIX = "/airflow_ray"


class PageApp:
    """The web application of the page, which is made when the first request for it comes."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None
        self._making = asyncio.Lock()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request, as ASGI has it."""
        async with self._making:
            if self._app is None:
                self._app = await asyncio.to_thread(_made)
        await self._app(scope, receive, send)


def _made() -> FastAPI:
    from airflow_ray.ui.app import create_app

    return create_app()


def _views() -> list[dict[str, Any]]:
    """Return where Airflow's UI shows the page: in its navigation, on a DAG run and on a task instance."""
    # Airflow's UI may lie below a path of its host, and leads to the page from the host on.
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + URL_PREFIX
    run = f"{root}/dags/{{DAG_ID}}/runs/{{RUN_ID}}"
    icons = {"icon": f"{root}/static/icon.svg", "icon_dark_mode": f"{root}/static/icon_dark.svg"}
    return [
        {"name": "Ray", "destination": "nav", "url_route": "ray", "href": f"{root}/", "nav_top_level": True, **icons},
        {"name": "Ray", "destination": "dag_run", "url_route": "ray_run", "href": run, **icons},
        {
            "name": "Ray",
            "destination": "task_instance",
            "url_route": "ray_task",
            "href": f"{run}/tasks/{{TASK_ID}}/{{MAP_INDEX}}",
            **icons,
        },
    ]


class RayPagePlugin(AirflowPlugin):
    """The Ray page in Airflow's UI, unless ``[airflow_ray] page = False``."""

    name = "airflow_ray"

    if conf.getboolean("airflow_ray", "page", fallback=True):
        fastapi_apps = [{"app": PageApp(), "url_prefix": URL_PREFIX, "name": "Ray page"}]
        external_views = _views()
