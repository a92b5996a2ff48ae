"""The pages as HTML."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from airflow_ray import __version__
from airflow_ray.client.doctor import quantity, readable_bytes, readable_seconds

if TYPE_CHECKING:
    from fastapi import Request

    from airflow_ray.object_uri import ObjectURI

FOLDER = Path(__file__).parent
# Nothing of another site is loaded, no text of the cluster's can become a script, and no other site shows the page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Links:
    """Addresses within the page.

    :param root: where the page is.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def clusters(self) -> str:
        """Return where all clusters are."""
        return f"{self.root}/"

    def static(self, name: str) -> str:
        """Return where a file is that each page uses."""
        return f"{self.root}/static/{name}?{__version__}"

    def run(self, dag_id: str, run_id: str) -> str:
        """Return where the objects of a run are."""
        return f"{self.root}/dags/{_part(dag_id)}/runs/{_part(run_id)}"

    def task(self, uri: ObjectURI) -> str:
        """Return where the work of a task instance is."""
        return f"{self.run(uri.dag_id, uri.run_id)}/tasks/{_part(uri.task_id)}/{uri.map_index}"

    def first_rows(self, uri: ObjectURI) -> str:
        """Return where the first rows of an object are."""
        return f"{self.task(uri)}/rows?{urlencode({'uri': str(uri)})}"

    def cancel(self, uri: ObjectURI) -> str:
        """Return where somebody is asked whether to cancel work."""
        return f"{self.task(uri)}/cancel?{urlencode({'uri': str(uri)})}"

    def release(self, uri: ObjectURI) -> str:
        """Return where somebody is asked whether to release the objects of a task instance."""
        return f"{self.run(uri.dag_id, uri.run_id)}/release?{urlencode({'uri': str(uri)})}"


def rendered(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page.

    :param context: what the template shows; all texts are escaped.
    """
    html = _environment().get_template(template).render(links=Links(request.scope["root_path"]), **context)
    return HTMLResponse(html, status, HEADERS)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": lambda count: "" if count is None else readable_bytes(count),
        "count": lambda number: "" if number is None else f"{number:,}",
        "seconds": readable_seconds,
        "moment": _moment,
        "amount": lambda amount: f"{amount:,.2f}".rstrip("0").rstrip("."),
        "quantity": quantity,
        "short": _short,
    }
    return environment


def _moment(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _short(type_name: str) -> str:
    """Return the name of a class as people call it: by its package, without the modules in between."""
    package, _, rest = type_name.partition(".")
    return f"{package}.{rest.rpartition('.')[2]}" if rest else package


def _part(text: str) -> str:
    return quote(text, safe="")
