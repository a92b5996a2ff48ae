"""The function that runs on a Ray worker around the user's callable."""

from __future__ import annotations

import functools
import io
import json
import linecache
import os
import pickle
import signal
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster import checkpoint
from airflow_ray.cluster.inner_objects import take_apart
from airflow_ray.cluster.log_tee import tee_output
from airflow_ray.cluster.modin_frames import modin_frames_kept
from airflow_ray.cluster.placement_groups import placement_groups_told
from airflow_ray.cluster.redaction import redacted, secrets_of_runtime_env
from airflow_ray.cluster.storage import CheckpointFailure
from airflow_ray.cluster.tuning import search
from airflow_ray.cluster.user_modules import importable
from airflow_ray.cluster.work import Work, WorkFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETURN_VALUE = "return_value"
MAX_JSON_BYTES = 1_000_000
FOOTER = "end of outputs"


class _PayloadUnpickler(pickle.Unpickler):
    """Puts the inputs, which Ray has already fetched, where the pickled arguments name them by number.

    A name stands for a function of this package, which gets the work as its first argument.
    """

    def __init__(self, payload: bytes, inputs: tuple[Any, ...], work: Work) -> None:
        super().__init__(io.BytesIO(payload))
        self._inputs = inputs
        self._functions = {search.__name__: functools.partial(search, work)}

    def persistent_load(self, pid: int | str) -> Any:
        return self._functions[pid] if isinstance(pid, str) else self._inputs[pid]


def describe_value(value: Any) -> dict[str, Any]:
    """Return the type of ``value`` and its ``shape`` or ``length`` where it has one, as plain data."""
    description: dict[str, Any] = {"type": checkpoint.type_name(value)}
    # Anything may happen inside a user's class; a log line is not worth a failed task.
    with suppress(Exception):
        shape = _shape_of(value)
        if isinstance(shape, tuple):
            description["shape"] = [int(size) for size in shape]
        elif hasattr(value, "__len__"):
            description["length"] = len(value)
    return description


def _shape_of(value: Any) -> Any:
    """Return the shape of a table or array, as far as it is known without computing anything."""
    kind = type(value).__name__
    if kind == "MaterializedDataset":
        return value.count(), len(value.columns())
    if kind in ("RayDMatrix", "RayQuantileDMatrix", "RayDeviceQuantileDMatrix"):
        return getattr(value.loader.data, "shape", None) or (value.n,)
    return getattr(value, "shape", None)


def describe_exception(error: BaseException, kind: str = "callable") -> dict[str, Any]:
    """Return ``error`` as plain data, its traceback without the frames of this module."""
    shown = traceback.TracebackException.from_exception(error)
    while shown.stack and shown.stack[0].filename == __file__:
        shown.stack.pop(0)
    return {
        "kind": kind,
        "type": checkpoint.type_name(error),
        "message": str(error),
        "traceback": "".join(shown.format()).rstrip(),
    }


def _is_lost_object(error: BaseException | None) -> bool:
    """Whether the cause is a Ray object that is gone, such as a part of a Modin frame."""
    from ray.exceptions import ObjectLostError

    while error is not None:
        if isinstance(error, ObjectLostError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _call(payload: bytes, inputs: tuple[Any, ...], work: Work) -> Any:
    try:
        function, args, kwargs = _PayloadUnpickler(payload, inputs, work).load()
    except Exception as error:
        raise WorkFailure(**describe_exception(error, "unpickle")) from error
    return function(*args, **kwargs)


def _as_json(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise WorkFailure(**{**describe_exception(error, "not_json"), **describe_value(value)}) from error
    if len(text) > MAX_JSON_BYTES:
        raise WorkFailure(kind="json_too_large", bytes=len(text), limit=MAX_JSON_BYTES)
    return text


def _named_outputs(value: Any, multiple_outputs: bool) -> dict[str, Any]:
    if not multiple_outputs:
        return {RETURN_VALUE: value}
    if not isinstance(value, dict) or not all(isinstance(key, str) and key for key in value):
        raise WorkFailure(kind="not_a_dict", **describe_value(value))
    return value


def _run_callable(
    payload: bytes, inputs: tuple[Any, ...], work: Work, as_json: bool, multiple_outputs: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the outputs; a failure of the user's code is part of the header."""
    started = time.monotonic()
    header: dict[str, Any] = {"error": None, "lost_object": False, "value_json": None, "outputs": {}}
    outputs: dict[str, Any] = {}
    try:
        value = _call(payload, inputs, work)
        outputs = _named_outputs(value, multiple_outputs)
        header["outputs"] = {key: describe_value(output) for key, output in outputs.items()}
        if as_json:
            header["value_json"] = _as_json(value)
            outputs = {}
    except WorkFailure as failure:
        header["error"] = failure.error
    # sys.exit() in a callable must fail the task, not end the worker as if all were well.
    except BaseException as error:
        header["error"] = describe_exception(error)
        header["lost_object"] = _is_lost_object(error)
    header["seconds"] = time.monotonic() - started
    return header, ({} if header["error"] else outputs)


def _write_checkpoints(
    target: dict[str, Any], outputs: dict[str, Any], header: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Write a checkpoint of each output and note in the header where it is, or why there is none."""
    for key, value in outputs.items():
        started = time.monotonic()
        try:
            storage, uri = checkpoint.located(target, key)
            say(f"Writing the checkpoint {storage.where(checkpoint.folder_of(uri))}")
            saved = checkpoint.save(storage, uri, value, target["keys"])
            header["outputs"][key]["checkpoint"] = {**saved, "seconds": time.monotonic() - started}
        except CheckpointFailure as failure:
            header["outputs"][key]["checkpoint"] = {"error": failure.error}
        # Whatever the storage's library raises: the task must end with its cause.
        except Exception as error:
            failed = describe_exception(error, "checkpoint_storage")
            header["outputs"][key]["checkpoint"] = {"error": {**failed, "where": target["storage"]["path"]}}


def _checkpoint_error(header: dict[str, Any]) -> dict[str, Any] | None:
    errors = (output["checkpoint"].get("error") for output in header["outputs"].values())
    return next(filter(None, errors), None)


def without_objects(value: Any) -> tuple[Any, list[Any]]:
    """Return ``value`` taken apart and the refs of the Ray objects inside it, or as it is and no refs.

    What cannot be pickled is left for Ray to say so.
    """
    with suppress(Exception):
        return take_apart(value) or (value, [])
    return value, []


@contextmanager
def _sigint_handler_kept() -> Iterator[None]:
    """Drop the handler that Ray Train leaves, which would keep its actors for as long as this process lives."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _log_sender(owner: Any, record_id: str, attempt: str, secrets: list[str]) -> Callable[[list[str]], None]:
    """Return a function that hands lines without ``secrets`` to the owner and waits until it has room for them."""
    import ray

    listening = True

    def send(lines: list[str]) -> None:
        nonlocal listening
        if listening:
            shown = [redacted(line, secrets) for line in lines]
            try:
                listening = ray.get(owner.append_log.remote(record_id, attempt, shown))
            except ray.exceptions.RayError:
                listening = False

    return send


def run(
    owner: Any,
    record_id: str,
    attempt: str,
    payload: bytes,
    sources: dict[str, tuple[str, str]],
    as_json: bool,
    multiple_outputs: bool,
    checkpointed: bool,
    *inputs: Any,
) -> Iterator[Any]:
    """Run a pickled callable and yield a header, then each output, then a footer.

    The header tells the outputs or the error as plain data, and the refs of the Ray objects inside each output, which
    is then taken apart. A stream without a footer ended in an error of Ray's, for example an output that cannot be
    pickled.

    :param owner: handle of the owner, told of the start and of each batch of log lines.
    :param payload: ``(callable, args, kwargs)`` as pickled by :mod:`airflow_ray.hooks.user_code`.
    :param sources: module name to file name and source text of the user's own modules.
    :param as_json: return the value as JSON text in the header instead of as an output.
    :param multiple_outputs: the callable returns a dict, each key an output of its own.
    :param checkpointed: the owner has a checkpoint target for the outputs.
    :param inputs: the values for the input slots of the payload.
    """
    import ray

    node = ray.util.get_node_ip_address()
    owner.announce_start.remote(record_id, attempt, node, os.getpid())
    for filename, source in sources.values():
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    secrets = secrets_of_runtime_env()
    send = _log_sender(owner, record_id, attempt, secrets)
    work = Work(record_id, attempt, sources)

    def note_group(group: Any) -> None:
        owner.note_placement_group.remote(record_id, attempt, group)

    with tee_output(send), importable(sources), placement_groups_told(note_group), _sigint_handler_kept():
        header, outputs = _run_callable(payload, inputs, work, as_json, multiple_outputs)
    # The credentials come now and not with the task, whose description Ray keeps as long as its outputs. There
    # are none when Ray runs the work again for an output that was lost: its checkpoint is there.
    target = ray.get(owner.checkpoint_target.remote(record_id, attempt)) if checkpointed and outputs else None
    if target is not None:
        _write_checkpoints(target, outputs, header, lambda line: send([line]))
        if target["required"] and (error := _checkpoint_error(header)):
            header, outputs = {**header, "error": error}, {}
    if header["error"]:
        header["error"] = {name: redacted(text, secrets) for name, text in header["error"].items()}
    objects = {}
    for key in outputs:
        outputs[key], objects[key] = without_objects(outputs[key])
    # Ray pickles what is yielded before it asks for more.
    with modin_frames_kept():
        yield {**header, "objects": objects, "node": node, "pid": os.getpid()}
        for key in list(outputs):
            yield outputs.pop(key)
        yield FOOTER
