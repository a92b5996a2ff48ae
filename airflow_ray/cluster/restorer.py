"""The function that reads a checkpoint on a Ray worker, straight into the object store."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_ray.cluster import checkpoint
from airflow_ray.cluster.runner import describe_exception, describe_value
from airflow_ray.cluster.storage import CheckpointFailure, Storage


def restore(owner: Any, record_id: str, key: str) -> tuple[Any, tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Return an output, and its description or, as plain data, why it cannot be read.

    :param owner: handle of the owner, which has the target of this restore.
    """
    import ray

    target = ray.get(owner.restore_target.remote(record_id, key))
    try:
        uri = f"{target['uri']}/{quote(key, safe='')}"
        value, saved = checkpoint.load(Storage(**target["storage"]), uri, target["keys"])
    except CheckpointFailure as failure:
        return None, (None, failure.error)
    # What a pickle raises that was made with other packages is anything.
    except Exception as error:
        failed = describe_exception(error, "checkpoint_package")
        return None, (None, {**failed, "where": target["storage"]["path"]})
    return value, ({**describe_value(value), "checkpoint": saved}, None)
