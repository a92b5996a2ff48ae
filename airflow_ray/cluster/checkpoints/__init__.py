"""Durable copies of outputs: what others use of this room is named here."""

from airflow_ray.cluster.checkpoints.checkpoint import describe, load, located, save
from airflow_ray.cluster.checkpoints.inventory import files_of, orphans, outdated_files_of, stored
from airflow_ray.cluster.checkpoints.manifest import folder_of
from airflow_ray.cluster.checkpoints.storage import Storage, has_expired, may_pass, open_filesystem, scheme_and_root

__all__ = [
    "Storage",
    "describe",
    "files_of",
    "folder_of",
    "has_expired",
    "load",
    "located",
    "may_pass",
    "open_filesystem",
    "orphans",
    "outdated_files_of",
    "save",
    "scheme_and_root",
    "stored",
]
