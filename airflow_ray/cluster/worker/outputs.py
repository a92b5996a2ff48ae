"""What becomes of what a callable has returned."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints import folder_of, has_expired, located, may_pass, save
from airflow_ray.cluster.failures import CheckpointFailure, WorkFailure, failure
from airflow_ray.cluster.protocol import REFRESH_SECONDS, RETURN_VALUE, FailureKind
from airflow_ray.cluster.values.description import describe_value, type_name
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.json_values import reason_against_json

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_JSON_BYTES = 1_000_000
# A storage may be started anew, or not be reached for a while, and what it is to keep took hours to make.
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 5.0
# For credentials newer than those that have expired: a retry of a task comes earlier.
RENEWAL_SECONDS = 3600.0


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


def named_outputs(value: Any, multiple_outputs: bool, max_items: int | None) -> tuple[dict[str, Any], Any]:
    """Return each output by its key, and ``value`` with their keys in place of the outputs, where there are several.

    :param multiple_outputs: each key of a dict is an output; None has none.
    :param max_items: each item of a list, tuple or dict of at most so many is an output; likewise.
    :raises WorkFailure: there shall be several, and ``value`` is none of these.
    """
    if max_items is not None and value is not None:
        return _items(value, max_items)
    if not multiple_outputs and max_items is None:
        return {RETURN_VALUE: value}, None
    if value is None:
        return {}, None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        message = "multiple_outputs=True needs a callable that returns a dict with texts as keys, it returned "
        raise WorkFailure(FailureKind.NOT_SEVERAL, message=message + type_name(value))
    # The owner reads them, and has no class of the user's, such as that of a text that is a member of an Enum.
    outputs = {str.__str__(key): item for key, item in value.items()}
    return outputs, {key: key for key in outputs}


def output_of_name(key: str, value: Any) -> dict[str, Any]:
    """Return a value as the one of several outputs that has this name."""
    return {key: value}


def _items(value: Any, max_items: int) -> tuple[dict[str, Any], Any]:
    """Return each item of what mapped tasks are expanded over, as Airflow expands it."""
    if not isinstance(value, (Sequence, dict)) or isinstance(value, (str, bytes)):
        message = "Other tasks expand over the result, which has to be a list, a tuple or a dict, and is a "
        raise WorkFailure(FailureKind.NOT_SEVERAL, message=message + type_name(value))
    if len(value) > max_items:
        limit = f"Airflow's [core] max_map_length lets it have {max_items:,}"
        message = f"Other tasks expand over the result, and it has {len(value):,} items; {limit}"
        raise WorkFailure(FailureKind.NOT_SEVERAL, message=message)
    keys = [f"{RETURN_VALUE}.{number}" for number in range(len(value))]
    if not isinstance(value, dict):
        return dict(zip(keys, value, strict=True)), keys
    return dict(zip(keys, value.values(), strict=True)), dict(zip(value, keys, strict=True))


def write_checkpoints(
    target: dict[str, Any],
    outputs: dict[str, Any],
    header: dict[str, Any],
    say: Callable[[str], None],
    newest_target: Callable[[], dict[str, Any] | None],
) -> None:
    """Write a checkpoint of each output and note in the header where it is, or why there is none.

    :param newest_target: returns the target with the credentials that somebody has renewed, None where there is none.
    """
    place = _Place(target, newest_target)
    patience = PATIENCE_SECONDS if target["required"] else 0.0
    for key, value in outputs.items():
        started = time.monotonic()
        try:
            saved = _saved(place, key, value, patience, say)
            header["outputs"][key]["checkpoint"] = {**saved, "seconds": time.monotonic() - started}
        except CheckpointFailure as raised:
            header["outputs"][key]["checkpoint"] = {"error": raised.error}
            patience = 0.0
        # Whatever the storage's library raises: the task must end with its cause.
        except Exception as error:
            failed = failure(
                FailureKind.CHECKPOINT_STORAGE, **describe_exception(error), where=target["storage"]["path"]
            )
            header["outputs"][key]["checkpoint"] = {"error": failed}


class _Place:
    """Where checkpoints go, with the newest credentials that there are.

    Who follows the work renews them. A task that was killed does not, and its next try may come when they are over. A
    token that stands in the AWS connection stays the same until somebody changes it.
    """

    def __init__(self, target: dict[str, Any], newest: Callable[[], dict[str, Any] | None]) -> None:
        self.target = target
        self._newest = newest
        self._until: float | None = None

    def renew(self, say: Callable[[str], None]) -> bool:
        """Return whether the storage may take credentials that have come since, once there are some."""
        is_told = False
        while (newest := self._newest()) is not None:
            if newest["storage"] != self.target["storage"]:
                self.target, self._until = newest, None
                return True
            if not self.target["required"] or self._seconds_left() <= 0:
                break
            if not is_told:
                say(
                    "The credentials for the checkpoint have expired, and the work waits for newer ones for "
                    f"{self._seconds_left():.0f} s at most. A task that follows it brings them from the AWS connection "
                    f"every {REFRESH_SECONDS / 60:.0f} minutes, and so does its next try. If that connection names an "
                    "aws_session_token, give it a new one"
                )
                is_told = True
            time.sleep(min(PAUSE_SECONDS, self._seconds_left()))
        return False

    def _seconds_left(self) -> float:
        now = time.monotonic()
        self._until = self._until or now + RENEWAL_SECONDS
        return max(0.0, self._until - now)


def _saved(place: _Place, key: str, value: Any, patience: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Write one checkpoint, once more as long as the storage cannot be reached; return what is known of it.

    :param patience: seconds after the first failure.
    :raises CheckpointFailure: it could not be written.
    """
    until = None
    while True:
        target = place.target
        try:
            storage, uri = located(target, key)
            say(f"Writing the checkpoint {storage.where(folder_of(uri))}")
            return save(storage, uri, value, target["keys"])
        except CheckpointFailure as raised:
            if has_expired(raised) and place.renew(say):
                continue
            until = until or time.monotonic() + patience
            left = until - time.monotonic()
            if left <= 0 or not may_pass(raised, target["storage"]["path"]):
                raise
            say(f"The checkpoint cannot be written: {raised}. It is tried again for {left:.0f} s")
            time.sleep(min(PAUSE_SECONDS, left))


def checkpoint_error(header: dict[str, Any]) -> dict[str, Any] | None:
    """Return why the first checkpoint that failed could not be written."""
    errors = (output["checkpoint"].get("error") for output in header["outputs"].values())
    return next(filter(None, errors), None)
