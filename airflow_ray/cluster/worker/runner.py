"""The function that runs on a Ray worker around the user's callable."""

from __future__ import annotations

import linecache
import os
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.airflow_exceptions import skip_importable
from airflow_ray.cluster.failures import WorkFailure, failure, lost_errors
from airflow_ray.cluster.log_levels import PLAIN
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.redaction import redacted, secrets_of_work
from airflow_ray.cluster.values.description import describe_value
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.inner_objects import take_apart
from airflow_ray.cluster.values.slices import as_shown
from airflow_ray.cluster.worker.actors import report_actors
from airflow_ray.cluster.worker.airflow_calls import warn_of_airflow_calls
from airflow_ray.cluster.worker.carried_code import output_of_children
from airflow_ray.cluster.worker.context import RunContext
from airflow_ray.cluster.worker.log_tee import tee_output
from airflow_ray.cluster.worker.made_again import difference, lost
from airflow_ray.cluster.worker.meter import Meter
from airflow_ray.cluster.worker.modin_room import leave_room_for_modin
from airflow_ray.cluster.worker.notebook_calls import let_notebooks_call_init
from airflow_ray.cluster.worker.outputs import checkpoint_error, json_of, named_outputs, write_checkpoints
from airflow_ray.cluster.worker.own_trainables import own_trainables
from airflow_ray.cluster.worker.owner_calls import begin_call
from airflow_ray.cluster.worker.payload import call
from airflow_ray.cluster.worker.placement_groups import report_placement_groups
from airflow_ray.cluster.worker.process_state import keep_process_state, keep_recursion_limit
from airflow_ray.cluster.worker.user_modules import importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.cluster.protocol import OutputNames, Sources


def _is_lost_object(error: BaseException | None) -> bool:
    """Whether the cause is a Ray object that is gone, such as a part of a Modin frame."""
    lost_classes = tuple(lost_errors())
    seen: set[int] = set()
    # An exception may be its own cause, and be false.
    while error is not None and id(error) not in seen:
        if isinstance(error, lost_classes):
            return True
        seen.add(id(error))
        error = error.__cause__ if error.__cause__ is not None else error.__context__
    return False


def _run_callable(
    payload: bytes, inputs: tuple[Any, ...], work: RunContext, as_json: bool, names: OutputNames
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the outputs; a failure of the user's code is part of the header."""
    started = time.monotonic()
    header: dict[str, Any] = {"error": None, "lost_object": False, "value_json": None, "outputs": {}}
    outputs: dict[str, Any] = {}
    try:
        value = call(payload, inputs, work)
        outputs, keys = named_outputs(value, *names)
        header["outputs"] = {key: describe_value(output) for key, output in outputs.items()}
        if as_json or keys is not None:
            header["value_json"] = json_of(value if as_json else keys)
        if as_json:
            outputs = {}
    except WorkFailure as raised:
        header["error"] = raised.error
    # sys.exit() in a callable must fail the task, not end the worker as if all were well.
    except BaseException as error:
        header["error"] = failure(FailureKind.CALLABLE, **describe_exception(error))
        header["lost_object"] = _is_lost_object(error)
    header["seconds"] = time.monotonic() - started
    return header, ({} if header["error"] else outputs)


def _take_apart(
    outputs: dict[str, Any], are_several: bool
) -> tuple[dict[str, Any], dict[str, list[Any]], dict[str, Any] | None]:
    """Return the outputs without the Ray objects inside them, the refs of those, and why it cannot be done."""
    apart: dict[str, Any] = {}
    objects: dict[str, list[Any]] = {}
    for key, value in outputs.items():
        try:
            apart[key], objects[key] = take_apart(value) or (value, [])
        # As Ray would meet it, but here it can be told with its line; a class may even raise SystemExit.
        except BaseException as error:
            told = describe_exception(error)
            where = f"output {key!r}: " if are_several else ""
            return {}, {}, failure(FailureKind.NOT_PICKLABLE, **{**told, "message": where + told["message"]})
    return apart, objects, None


@contextmanager
def _report_belongings(owner: Any, record_id: str, attempt: str) -> Iterator[None]:
    """Tell the owner of what is made meanwhile that must end with the work."""

    def note_group(group: Any) -> None:
        begin_call(owner, "note_placement_group", record_id, attempt, group)

    def note_actor(state: bytes) -> None:
        begin_call(owner, "note_actor", record_id, attempt, state)

    with report_placement_groups(note_group), report_actors(note_actor):
        yield


def _saved(
    newest_target: Callable[[], dict[str, Any] | None],
    header: dict[str, Any],
    outputs: dict[str, Any],
    send: Callable[[list[str], str], None],
    secrets: list[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the checkpoints, and return header and outputs; none of these where one that must be there is not."""
    # There is none when Ray runs the work again for an output that was lost: its checkpoint is there.
    if (target := newest_target()) is None:
        return header, outputs
    write_checkpoints(target, outputs, header, lambda line: send([redacted(line, secrets)], PLAIN), newest_target)
    _hide_in_checkpoint_errors(header, secrets)
    if target["required"] and (error := checkpoint_error(header)):
        return {**header, "error": error}, {}
    return header, outputs


def _hide_in_checkpoint_errors(header: dict[str, Any], secrets: list[str]) -> None:
    """Leave secrets out of why a checkpoint could not be written: where it need not be, the work has no other error."""
    for output in header["outputs"].values():
        if "error" in output["checkpoint"]:
            output["checkpoint"]["error"] = redacted(output["checkpoint"]["error"], secrets)


def _log_sender(owner: Any, record_id: str, attempt: str, secrets: list[str]) -> Callable[[list[str], str], None]:
    """Return a function that hands lines without ``secrets`` to the owner and waits until it has room for them."""
    import ray

    listening = True

    def send(lines: list[str], levels: str) -> None:
        nonlocal listening
        if listening:
            shown = [redacted(line, secrets) for line in lines]
            try:
                listening = ray.get(begin_call(owner, "append_log", record_id, attempt, shown, levels))
            except ray.exceptions.RayError:
                listening = False

    return send


def run(
    owner: Any,
    owner_name: str,
    record_id: str,
    attempt: str,
    payload: bytes,
    sources: Sources,
    as_json: bool,
    names: OutputNames,
    checkpointed: bool,
    *inputs: Any,
) -> Iterator[Any]:
    """Run a pickled callable and yield a header, then each output, then the header once more.

    The header tells the outputs or the error as plain data, and the refs of the Ray objects inside each output, which
    is then taken apart. A stream that does not end in one ended in an error of Ray's, for example an output that cannot
    be pickled. Where Ray runs the work again, before its end or for an output that was lost, what is yielded takes the
    place of what was: the last header tells of the run that has ended. Where outputs that are kept would not be what
    they were, errors are yielded in their place.

    :param owner: handle of the owner, told of the start and of each batch of log lines.
    :param owner_name: its name, for what is pickled on and finds it later.
    :param payload: ``(callable, args, kwargs)`` as pickled by :mod:`airflow_ray.client.submission.payload`.
    :param sources: module name to file name and source text of the user's own modules.
    :param as_json: return the value as JSON text in the header instead of as an output.
    :param names: what of the returned value is an output of its own.
    :param checkpointed: the owner has a checkpoint target for the outputs.
    :param inputs: the values for the input slots of the payload.
    """
    import ray

    node = ray.util.get_node_ip_address()
    run_id = uuid.uuid4().hex
    begin_call(owner, "announce_start", record_id, attempt, run_id, node, os.getpid())
    for filename, source, _ in sources.values():
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    secrets = secrets_of_work()
    send = _log_sender(owner, record_id, attempt, secrets)
    work = RunContext(owner_name, record_id, attempt, sources)

    let_notebooks_call_init()
    # What the callable sets of it holds for pickling what it returns, too.
    with keep_recursion_limit():
        with Meter(list(map(str, ray.get_gpu_ids()))) as meter:
            with (
                output_of_children(owner_name),
                tee_output(send, secrets),
                importable(sources),
                skip_importable(),
                leave_room_for_modin(),
                own_trainables(),
                _report_belongings(owner, record_id, attempt),
                warn_of_airflow_calls(),
                keep_process_state(),
            ):
                header, outputs = _run_callable(payload, inputs, work, as_json, names)
            if checkpointed and outputs:
                # The credentials come now and not with the task, whose description Ray keeps as long as its outputs.
                def newest_target() -> dict[str, Any] | None:
                    target: dict[str, Any] | None = ray.get(begin_call(owner, "checkpoint_target", record_id, attempt))
                    return target

                header, outputs = _saved(newest_target, header, outputs, send, secrets)
            are_several = names[0] or names[1] is not None
            outputs, objects, error = _take_apart(outputs, are_several)
        if error is not None:
            header = {**header, "error": error}
        if header["error"]:
            header["error"] = redacted(header["error"], secrets)
        made = ray.get(begin_call(owner, "made_outputs", record_id, attempt))
        if (reason := difference(list(objects), header["error"], made)) is not None:
            yield from lost(reason, len(made or objects or [None]))
            return
        header |= {"objects": objects, "used": meter.used, "run_id": run_id, "node": node, "pid": os.getpid()}
        # Ray pickles what is yielded before it asks for more.
        with as_shown():
            yield header
            for key in list(outputs):
                yield outputs.pop(key)
            yield header
