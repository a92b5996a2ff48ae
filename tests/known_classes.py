"""Which classes this process knows by their ids."""

from __future__ import annotations

from ray.cloudpickle import cloudpickle

from airflow_ray.cluster.values.identity import whole_classes


def forget(cls: type) -> None:
    """Let this process be one that has not met a class."""
    class_id = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(cls, None)
    cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.pop(class_id, None)
    whole_classes().discard(cls)
