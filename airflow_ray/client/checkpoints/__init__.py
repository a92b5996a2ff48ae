"""Checkpoints as the client sees them: where they lie, who may read them, and the way back.

What others use of this room is named here.
"""

from airflow_ray.client.checkpoints.location import (
    CheckpointLocation,
    find_location,
    find_storage,
    require_location,
    resolve,
)
from airflow_ray.client.checkpoints.recovery import (
    checkpoint_of,
    from_gone_cluster,
    has_checkpoint,
    require_checkpoint,
    restore,
)
from airflow_ray.client.checkpoints.store import CheckpointStore
from airflow_ray.client.checkpoints.targets import Targets
from airflow_ray.client.checkpoints.telling import XCOM_KEY, tell, told

__all__ = [
    "XCOM_KEY",
    "CheckpointLocation",
    "CheckpointStore",
    "Targets",
    "checkpoint_of",
    "find_location",
    "find_storage",
    "from_gone_cluster",
    "has_checkpoint",
    "require_checkpoint",
    "require_location",
    "resolve",
    "restore",
    "tell",
    "told",
]
