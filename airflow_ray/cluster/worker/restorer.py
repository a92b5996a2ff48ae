"""The function that reads a checkpoint on a Ray worker, straight into the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints import load, located
from airflow_ray.cluster.failures import CheckpointFailure, failure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.values.description import describe_value
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.inner_objects import without_objects
from airflow_ray.cluster.values.slices import as_shown
from airflow_ray.cluster.worker.owner_calls import begin_call

if TYPE_CHECKING:
    from collections.abc import Iterator


def restore(owner: Any, record_id: str, key: str) -> Iterator[Any]:
    """Yield an output, and then the refs inside it, its description and, as plain data, why it cannot be read.

    An output with Ray objects inside is taken apart. Description or error is None.

    :param owner: handle of the owner, which has the target of this restore.
    """
    import ray

    target = ray.get(begin_call(owner, "restore_target", record_id, key))
    value = description = error = None
    try:
        value, saved = load(*located(target, key), target["keys"])
        description = {**describe_value(value), "checkpoint": saved}
    except CheckpointFailure as raised:
        error = raised.error
    # What a pickle raises that was made with other packages is anything.
    except Exception as raised:
        error = failure(FailureKind.CHECKPOINT_PACKAGE, **describe_exception(raised), where=target["storage"]["path"])
    value, objects = without_objects(value)
    with as_shown():
        yield value
        yield objects, description, error
