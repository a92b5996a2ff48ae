"""What kind of value something is, and what that means for it: for a log line, a preview, its way through the store."""

from airflow_ray.cluster.values.description import describe_value, type_name
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.inner_objects import (
    collected,
    pickler_without_objects,
    take_apart,
    unpickle_around,
    value_around,
    without_objects,
)
from airflow_ray.cluster.values.kinds import (
    ARRAY,
    ARROW_TABLE,
    PANDAS_FRAMES,
    POLARS_FRAME,
    is_table,
    kind_of,
    kinds_of,
)
from airflow_ray.cluster.values.modin_frames import keep_modin_frames
from airflow_ray.cluster.values.preview import preview

__all__ = [
    "ARRAY",
    "ARROW_TABLE",
    "PANDAS_FRAMES",
    "POLARS_FRAME",
    "collected",
    "describe_exception",
    "describe_value",
    "is_table",
    "keep_modin_frames",
    "kind_of",
    "kinds_of",
    "pickler_without_objects",
    "preview",
    "take_apart",
    "type_name",
    "unpickle_around",
    "value_around",
    "without_objects",
]
