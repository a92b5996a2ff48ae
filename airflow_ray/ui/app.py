"""The web application of the page: its parts, its files, and its answer to who may not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_ray.ui import clusters, runs, tasks
from airflow_ray.ui.rendering import FOLDER, rendered

if TYPE_CHECKING:
    from fastapi import Response

FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "icon_dark.svg": "image/svg+xml",
}
WORDS = {
    401: "You are not logged in to Airflow. Log in, and open this page again.",
    403: "Airflow does not let you do this, or see it.",
    404: "There is no such page.",
    422: "The address of this page is not complete, or a part of it is wrong.",
}


def create_app() -> FastAPI:
    """Return the application; each of its routes but that of its files asks Airflow's authorisation."""
    app = FastAPI(title="Ray page", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/static/{name}", _file)
    app.include_router(clusters.router)
    app.include_router(runs.router)
    app.include_router(tasks.router)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misread)
    return app


def _file(name: str) -> FileResponse:
    if name not in FILES:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
    return FileResponse(FOLDER / "static" / name, media_type=FILES[name], headers=headers)


def _misread(request: Request, _error: Exception) -> Response:
    return rendered(request, "refused.html", 422, words=WORDS[422])


def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    detail = str(getattr(error, "detail", ""))
    words = detail if detail.endswith(".") else WORDS.get(status, detail)
    return rendered(request, "refused.html", status, words=words)
