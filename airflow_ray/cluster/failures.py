"""Failures as the cluster tells them: plain data, with the kind that the client knows them by."""

from __future__ import annotations

from typing import Any


class CheckpointFailure(Exception):
    """Carries, as plain data, why a checkpoint could not be written or read.

    It never leaves the process that raises it: what crosses is ``error``.

    :param kind: what :mod:`airflow_ray.client.errors` knows the failure by.
    :param where: the file or folder.
    :param message: the cause.
    """

    def __init__(self, kind: str, where: str, message: str) -> None:
        super().__init__(message)
        self.error = {"kind": kind, "where": where, "message": message}


def failure_of(error: Exception) -> dict[str, Any]:
    """Return an error of Ray's as plain data, with the kind that the hook knows it by."""
    from ray import exceptions as ray_exceptions

    kinds: list[tuple[type[Exception], str]] = [
        (ray_exceptions.RuntimeEnvSetupError, "runtime_env"),
        (ray_exceptions.OutOfMemoryError, "out_of_memory"),
        (ray_exceptions.TaskUnschedulableError, "unschedulable"),
        (ray_exceptions.ObjectLostError, "input_lost"),
        (ray_exceptions.WorkerCrashedError, "worker_crashed"),
        (ray_exceptions.NodeDiedError, "worker_crashed"),
        (ray_exceptions.LocalRayletDiedError, "worker_crashed"),
        (ray_exceptions.RayTaskError, "not_picklable"),
    ]
    kind = next((kind for cls, kind in kinds if isinstance(error, cls)), "ray")
    cause = getattr(error, "cause", None) if kind == "not_picklable" else None
    # Raised where an input is unpickled that has Ray objects of its own inside.
    if isinstance(cause, ray_exceptions.RaySystemError) and "OwnerDiedError" in str(error):
        kind = "input_lost"
    return {"kind": kind, "type": type(cause or error).__name__, "message": str(cause or error)}


class WorkFailure(Exception):
    """Carries, as plain data, why the work failed, in words of this package instead of a traceback.

    :param error: what :mod:`airflow_ray.client.errors` knows the failure by, ``kind`` among it.
    """

    def __init__(self, **error: Any) -> None:
        super().__init__(error)
        self.error = error
