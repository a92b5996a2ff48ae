"""What becomes of what a callable has returned."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints import folder_of, located, save
from airflow_ray.cluster.failures import CheckpointFailure, WorkFailure, failure
from airflow_ray.cluster.protocol import RETURN_VALUE, FailureKind
from airflow_ray.cluster.values.description import describe_value
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.json_values import reason_against_json

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_JSON_BYTES = 1_000_000


def json_of(value: Any) -> str:
    """Return ``value`` as JSON.

    :raises WorkFailure: it is none, would not come back equal, or is too large.
    """
    if reason := reason_against_json(value):
        raise WorkFailure(FailureKind.NOT_JSON, message=reason, **describe_value(value))
    text = json.dumps(value)
    if len(text) > MAX_JSON_BYTES:
        raise WorkFailure(FailureKind.JSON_TOO_LARGE, bytes=len(text), limit=MAX_JSON_BYTES)
    return text


def named_outputs(value: Any, multiple_outputs: bool) -> dict[str, Any]:
    """Return each output by its key.

    :raises WorkFailure: there shall be several, and ``value`` is no dict of them.
    """
    if not multiple_outputs:
        return {RETURN_VALUE: value}
    if not isinstance(value, dict) or not all(isinstance(key, str) and key for key in value):
        raise WorkFailure(FailureKind.NOT_A_DICT, **describe_value(value))
    return value


def write_checkpoints(
    target: dict[str, Any], outputs: dict[str, Any], header: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Write a checkpoint of each output and note in the header where it is, or why there is none."""
    for key, value in outputs.items():
        started = time.monotonic()
        try:
            storage, uri = located(target, key)
            say(f"Writing the checkpoint {storage.where(folder_of(uri))}")
            saved = save(storage, uri, value, target["keys"])
            header["outputs"][key]["checkpoint"] = {**saved, "seconds": time.monotonic() - started}
        except CheckpointFailure as raised:
            header["outputs"][key]["checkpoint"] = {"error": raised.error}
        # Whatever the storage's library raises: the task must end with its cause.
        except Exception as error:
            failed = failure(
                FailureKind.CHECKPOINT_STORAGE, **describe_exception(error), where=target["storage"]["path"]
            )
            header["outputs"][key]["checkpoint"] = {"error": failed}


def checkpoint_error(header: dict[str, Any]) -> dict[str, Any] | None:
    """Return why the first checkpoint that failed could not be written."""
    errors = (output["checkpoint"].get("error") for output in header["outputs"].values())
    return next(filter(None, errors), None)
