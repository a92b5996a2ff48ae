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
from airflow_ray.cluster.values.preview import preview
from airflow_ray.cluster.values.slices import as_shown, compacted, holds_views

__all__ = [
    "ARRAY",
    "ARROW_TABLE",
    "PANDAS_FRAMES",
    "POLARS_FRAME",
    "as_shown",
    "collected",
    "compacted",
    "describe_exception",
    "describe_value",
    "holds_views",
    "is_table",
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
