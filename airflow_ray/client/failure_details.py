"""Details of failures, as their texts show them."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_ray.object_uri import ObjectURI

MAX_NODES = 5
#: For the log of a task that is killed: URI, reason, and the URI once more.
NOT_CANCELLED = (
    "The work for %s could not be cancelled and may go on on the Ray cluster: %s. When the cluster answers again, stop "
    "it with: airflow ray release %s"
)


def why_not_done(error: BaseException, seconds: float) -> str:
    """Return why something was not done.

    :param error: what it has raised.
    :param seconds: in which it had to be done.
    """
    # Before Python 3.11, that of asyncio is another one.
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return f"no answer within {seconds:g} seconds"
    return str(error) or type(error).__name__


def resources_text(amounts: dict[str, float]) -> str:
    """Return what was asked for, or what a node has."""
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(amounts.items())) or "nothing"


def nodes_text(nodes: list[dict[str, float]]) -> str:
    """Return what each of a few nodes has."""
    more = f" and {len(nodes) - MAX_NODES} more" if len(nodes) > MAX_NODES else ""
    return "; ".join(map(resources_text, nodes[:MAX_NODES])) + more


def input_of(uri: Any, error: dict[str, Any]) -> Any:
    """Return the object URI that a failure is about where it names one, or else ``uri``."""
    return ObjectURI.of_record(uri.conn_id, error["record_id"], error["key"]) if "record_id" in error else uri
