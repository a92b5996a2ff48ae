"""The function that runs on a Ray worker around the user's callable."""

from __future__ import annotations

import io
import json
import linecache
import os
import pickle
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.log_tee import tee_output
from airflow_ray.cluster.user_modules import importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETURN_VALUE = "return_value"
MAX_JSON_BYTES = 1_000_000
FOOTER = "end of outputs"


class _UserError(Exception):
    """Carries the error dict of a failure that has its own kind."""


class _PayloadUnpickler(pickle.Unpickler):
    """Puts the inputs, which Ray has already fetched, where the pickled arguments name them by number."""

    def __init__(self, payload: bytes, inputs: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(payload))
        self._inputs = inputs

    def persistent_load(self, pid: int) -> Any:
        return self._inputs[pid]


def describe_value(value: Any) -> dict[str, Any]:
    """Return the type of ``value`` and its ``shape`` or ``length`` where it has one, as plain data."""
    kind = type(value)
    description: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}
    # Anything may happen inside a user's class; a log line is not worth a failed task.
    with suppress(Exception):
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            description["shape"] = [int(size) for size in shape]
        elif hasattr(value, "__len__"):
            description["length"] = len(value)
    return description


def describe_exception(error: BaseException, kind: str = "callable") -> dict[str, Any]:
    """Return ``error`` as plain data, its traceback without the frames of this module."""
    shown = traceback.TracebackException.from_exception(error)
    while shown.stack and shown.stack[0].filename == __file__:
        shown.stack.pop(0)
    cls = type(error)
    return {
        "kind": kind,
        "type": f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins."),
        "message": str(error),
        "traceback": "".join(shown.format()).rstrip(),
    }


def _call(payload: bytes, inputs: tuple[Any, ...]) -> Any:
    try:
        function, args, kwargs = _PayloadUnpickler(payload, inputs).load()
    except Exception as error:
        raise _UserError(describe_exception(error, "unpickle")) from error
    return function(*args, **kwargs)


def _as_json(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise _UserError({**describe_exception(error, "not_json"), **describe_value(value)}) from error
    if len(text) > MAX_JSON_BYTES:
        raise _UserError({"kind": "json_too_large", "bytes": len(text), "limit": MAX_JSON_BYTES})
    return text


def _named_outputs(value: Any, multiple_outputs: bool) -> dict[str, Any]:
    if not multiple_outputs:
        return {RETURN_VALUE: value}
    if not isinstance(value, dict) or not all(isinstance(key, str) and key for key in value):
        raise _UserError({"kind": "not_a_dict", **describe_value(value)})
    return value


def _run_callable(
    payload: bytes, inputs: tuple[Any, ...], as_json: bool, multiple_outputs: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the outputs; a failure of the user's code is part of the header."""
    started = time.monotonic()
    header: dict[str, Any] = {"error": None, "value_json": None, "outputs": {}}
    outputs: dict[str, Any] = {}
    try:
        value = _call(payload, inputs)
        outputs = _named_outputs(value, multiple_outputs)
        header["outputs"] = {key: describe_value(output) for key, output in outputs.items()}
        if as_json:
            header["value_json"] = _as_json(value)
            outputs = {}
    except _UserError as error:
        header["error"] = error.args[0]
    # sys.exit() in a callable must fail the task, not end the worker as if all were well.
    except BaseException as error:
        header["error"] = describe_exception(error)
    header["seconds"] = time.monotonic() - started
    return header, ({} if header["error"] else outputs)


def _log_sender(owner: Any, record_id: str, attempt: str) -> Callable[[list[str]], None]:
    """Return a function that hands lines to the owner and waits until it has room for them."""
    import ray

    listening = True

    def send(lines: list[str]) -> None:
        nonlocal listening
        if listening:
            try:
                listening = ray.get(owner.append_log.remote(record_id, attempt, lines))
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
    *inputs: Any,
) -> Iterator[Any]:
    """Run a pickled callable and yield a header, then each output, then a footer.

    The header tells the outputs or the error as plain data. A stream without a footer ended in an
    error of Ray's, for example an output that cannot be pickled.

    :param owner: handle of the owner, told of the start and of each batch of log lines.
    :param payload: ``(callable, args, kwargs)`` as pickled by :mod:`airflow_ray.hooks.user_code`.
    :param sources: module name to file name and source text of the user's own modules.
    :param as_json: return the value as JSON text in the header instead of as an output.
    :param multiple_outputs: the callable returns a dict, each key an output of its own.
    :param inputs: the values for the input slots of the payload.
    """
    import ray

    node = ray.util.get_node_ip_address()
    owner.announce_start.remote(record_id, attempt, node, os.getpid())
    for filename, source in sources.values():
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    with tee_output(_log_sender(owner, record_id, attempt)), importable(sources):
        header, outputs = _run_callable(payload, inputs, as_json, multiple_outputs)
    yield {**header, "node": node, "pid": os.getpid()}
    for key in list(outputs):
        yield outputs.pop(key)
    yield FOOTER
