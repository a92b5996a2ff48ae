"""Failures as the cluster tells them: plain data, with the kind that the client knows them by."""

from __future__ import annotations

from typing import Any

from airflow_ray.cluster.protocol import FailureKind, RefusalKind
from airflow_ray.cluster.values.description import type_name
from airflow_ray.cluster.values.exceptions import text_of, users_error

# What Ray has from 2.60 on in the place of an object whose work it has run again to another end.
_REPLAY = "StreamingGeneratorReplayInconsistentError"
_MADE_OTHERWISE = "Ray ran the work again that had made it, which failed this time, or left other outputs"


def failure(kind: FailureKind | RefusalKind, **details: Any) -> dict[str, Any]:
    """Return a failure as plain data.

    :param details: what :mod:`airflow_ray.client.errors` has to know of this kind.
    """
    return {"kind": kind.value, **details}


class CheckpointFailure(Exception):
    """Carries, as plain data, why a checkpoint could not be written or read.

    It never leaves the process that raises it: what crosses is ``error``.

    :param kind: the kind of failure, or its text.
    :param where: the file or folder.
    :param message: the cause.
    """

    def __init__(self, kind: FailureKind | str, where: str, message: str) -> None:
        super().__init__(message)
        self.error = failure(FailureKind(kind), where=where, message=message)


class WorkFailure(Exception):
    """Carries, as plain data, why the work failed, in words of this package instead of a traceback.

    :param kind: the kind of failure.
    :param details: as for :func:`failure`.
    """

    def __init__(self, kind: FailureKind, **details: Any) -> None:
        super().__init__(kind.value)
        self.error = failure(kind, **details)


class Refusal(Exception):
    """Carries, as plain data, why the gateway does not do what it is asked.

    :param error: a failure.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["kind"])
        self.error = error


def refusal(kind: RefusalKind, message: str) -> Refusal:
    """Return what tells why the gateway does not do what it is asked."""
    return Refusal(failure(kind, message=message))


def failure_of(error: Exception) -> dict[str, Any]:
    """Return an error of Ray's as plain data, with the kind that the client knows it by."""
    from ray import exceptions as ray_exceptions

    kinds: list[tuple[type[Exception], FailureKind]] = [
        (ray_exceptions.RuntimeEnvSetupError, FailureKind.RUNTIME_ENV),
        (ray_exceptions.OutOfMemoryError, FailureKind.OUT_OF_MEMORY),
        (ray_exceptions.TaskUnschedulableError, FailureKind.UNSCHEDULABLE),
        *((lost, FailureKind.INPUT_LOST) for lost in lost_errors()),
        (ray_exceptions.WorkerCrashedError, FailureKind.WORKER_CRASHED),
        (ray_exceptions.NodeDiedError, FailureKind.WORKER_CRASHED),
        (ray_exceptions.LocalRayletDiedError, FailureKind.WORKER_CRASHED),
        (ray_exceptions.RayTaskError, FailureKind.NOT_PICKLABLE),
    ]
    kind = next((kind for cls, kind in kinds if isinstance(error, cls)), FailureKind.RAY)
    # What was raised in a task may be of any class of a user's, also one that fails when it is asked for its text.
    cause = users_error(error) if isinstance(error, ray_exceptions.RayTaskError) else error
    # Raised where an input is unpickled that has Ray objects of its own inside.
    is_of_input = kind is FailureKind.NOT_PICKLABLE and "OwnerDiedError" in text_of(error)
    if is_of_input and isinstance(vars(error).get("cause"), ray_exceptions.RaySystemError):
        kind = FailureKind.INPUT_LOST
    message = _MADE_OTHERWISE if _REPLAY in type(error).__name__ else text_of(cause)
    return failure(kind, type=type_name(cause), message=message, traceback=text_of(error))


def lost_errors() -> list[type[Exception]]:
    """Return the classes of the errors that Ray has in the place of an object that is lost."""
    from ray import exceptions as ray_exceptions

    of_replay = getattr(ray_exceptions, _REPLAY, None)
    return [ray_exceptions.ObjectLostError, *([] if of_replay is None else [of_replay])]
