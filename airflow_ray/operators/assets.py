"""What the events of a task's assets tell of the objects that the task has made."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_ray.client.described import shape_of, stored
from airflow_ray.object_uri import RETURN_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from airflow_ray.object_uri import ObjectURI

# An event lies in Airflow's database.
MAX_OBJECTS = 100


def tell_assets(context: Context, outlets: Iterable[Any], uri: ObjectURI, outputs: dict[str, dict[str, Any]]) -> None:
    """Add what a task has made to the events of its assets; what somebody else has put there stays.

    :param context: of the task.
    :param outlets: of the task; what is no asset is passed over.
    :param uri: of the task.
    :param outputs: those of its record, by their keys.
    """
    objects = {key: _told(uri.with_key(key), output) for key, output in stored(outputs).items()}
    assets = [outlet for outlet in outlets if isinstance(outlet, Asset)]
    if not (objects and assets):
        return
    extra = objects[RETURN_VALUE] if [*objects] == [RETURN_VALUE] else {"objects": dict(_first(objects))}
    for asset in assets:
        event = context["outlet_events"][asset]
        event.extra = {**extra, **event.extra}


def _told(uri: ObjectURI, output: dict[str, Any]) -> dict[str, Any]:
    told = {"object_uri": str(uri), "type": output["type"], "bytes": output["bytes"]}
    told |= dict(zip(("rows", "columns"), shape_of(output), strict=False))
    path = (output.get("checkpoint") or {}).get("path")
    return {**told, "checkpoint": path} if path else told


def _first(objects: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return islice(objects.items(), MAX_OBJECTS)
