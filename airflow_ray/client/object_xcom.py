"""What a person sees of a task's objects who looks at its XComs, where the object URI alone tells nothing."""

from __future__ import annotations

from typing import Any

from airflow_ray.client.described import stored
from airflow_ray.object_uri import RETURN_VALUE

XCOM_KEY = "ray_object"
# A person reads it, and Airflow's database keeps it.
MAX_OUTPUTS = 20
MAX_COLUMNS_OF_EACH = 10


def told_of(outputs: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return type, shape, bytes and first columns of a task's object, or by key those of several; None without any.

    There is no object URI in it: who pulls it gets what is told, and not the object.

    :param outputs: the descriptions of a record.
    """
    objects = stored(outputs)
    if objects.keys() == {RETURN_VALUE}:
        return _told(objects[RETURN_VALUE], None)
    told: dict[str, Any] = {key: _told(objects[key], MAX_COLUMNS_OF_EACH) for key in list(objects)[:MAX_OUTPUTS]}
    if len(objects) > MAX_OUTPUTS:
        told["…"] = f"and {len(objects) - MAX_OUTPUTS} more"
    return told or None


def _told(output: dict[str, Any], max_columns: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {name: output[name] for name in ("type", "shape", "length", "bytes") if name in output}
    if columns := output.get("columns"):
        told["columns"] = [f"{name}: {type}" if type else name for name, type in columns[:max_columns]]
    return told
