"""From the plain data in which the cluster tells a failure to the exception that a user sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray._compat import AirflowException, AirflowFailException, AirflowSkipException
from airflow_ray.exceptions import (
    AirflowRayError,
    RayCheckpointAccessError,
    RayCheckpointCorruptError,
    RayCheckpointNotFoundError,
    RayCheckpointSignatureError,
    RayCheckpointStorageError,
    RayCheckpointVersionError,
    RayConfigurationError,
    RayObjectLostError,
    RayOutOfMemoryError,
    RayPicklingError,
    RayResultError,
    RayRuntimeEnvError,
    RaySchedulingError,
    RayTaskCancelledError,
    RayTaskFailedError,
    RayTuneCheckpointError,
    RayTuneError,
    RayTuneMetricError,
    RayTuneStorageError,
    RayTuneTrialsFailedError,
    RayWorkerCrashedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.object_uri import ObjectURI


#: For the log of a task that is killed: URI, reason, and the URI once more.
NOT_CANCELLED = (
    "The work for %s could not be cancelled and may go on on the Ray cluster: %s. When the cluster answers again, stop "
    "it with: airflow ray release %s"
)


def exception_for(uri: ObjectURI, record: dict[str, Any]) -> AirflowException:
    """Return the exception for a record that ended without success.

    :param uri: any output of the record.
    :param record: what the owner's ``describe`` returned; its state is FAILED, CANCELLED or LOST.
    """
    error = record.get("error")
    if record["state"] == "CANCELLED":
        return RayTaskCancelledError(f"The work for {uri} was cancelled")
    if record["state"] == "LOST" or error is None:
        return RayObjectLostError(
            f"The Ray cluster does not know the work for {uri}: the cluster, or the owner on its head, was started "
            f"anew. Clear task {uri.task_id!r} of DAG {uri.dag_id!r} in run {uri.run_id!r}, or give it retries."
        )
    return exception_from(uri, error)


def exception_from(uri: Any, error: dict[str, Any]) -> AirflowException:
    """Return the exception for an error that the cluster tells of ``uri``."""
    build: Callable[[Any, dict[str, Any]], AirflowException] = _BUILDERS.get(error["kind"], _unexpected)
    return build(uri, error)


def object_lost(uri: ObjectURI, reason: str | None) -> RayObjectLostError:
    """Return the error for an object that is not there, with what to do about it."""
    mapped = f" with map index {uri.map_index}" if uri.map_index >= 0 else ""
    return RayObjectLostError(
        f"There is no object {uri} in the Ray cluster{': ' + reason if reason else ''}. It is made by task "
        f"{uri.task_id!r}{mapped} of DAG {uri.dag_id!r} in run {uri.run_id!r}: clear that task to make it again."
    )


def not_restored(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    """Return the exception for a lost object whose checkpoint could not be read, with what to do about it."""
    if error["kind"] == "checkpoint_not_found":
        return object_lost(uri, f"its owner does not know it, and there is no checkpoint at {error['where']}")
    cause = exception_from(uri, error)
    return type(cause)(f"{object_lost(uri, 'its owner does not know it')} Its checkpoint is of no help: {cause}")


def _callable(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    module, _, name = error["type"].rpartition(".")
    if module.startswith("airflow."):
        for cls in (AirflowSkipException, AirflowFailException):
            if name == cls.__name__:
                return cls(error["message"])
    return RayTaskFailedError(error["type"], error["message"], error["traceback"])


def _unpickle(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayPicklingError(
        f"The callable or an argument could not be unpickled on the Ray cluster: {error['type']}: "
        f"{error['message']}. What it imports must be installed there, lie in the DAG folder, or be "
        f"named in runtime_env, for example runtime_env={{'pip': [...]}}.\n\n{error['traceback']}"
    )


def _not_picklable(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayResultError(
        f"The result of the callable cannot be pickled, so it cannot be kept in Ray's object store: "
        f"{error['type']}: {error['message']}"
    )


def _not_readable(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayPicklingError(
        f"The value for {uri} cannot be unpickled on the Ray cluster, which needs the packages it was made with: "
        f"{error['type']}: {error['message']}"
    )


def _not_json(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayResultError(
        f"result='value' needs a result that is JSON, and this is not: {error['message']}. Convert it in the "
        "callable, for example by float(x) or x.tolist(), or leave it in the cluster with result='ref'."
    )


def _json_too_large(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayResultError(
        f"The result is {error['bytes']:,} bytes as JSON, and result='value' takes {error['limit']:,} at most, "
        "since it goes into Airflow's database. Leave it in the cluster with result='ref'."
    )


def _not_a_dict(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayResultError(
        f"multiple_outputs=True needs a callable that returns a dict with texts as keys, it returned {error['type']}"
    )


def _runtime_env(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayRuntimeEnvError(f"The runtime_env could not be built on the Ray cluster: {error['message']}")


def _worker_crashed(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayWorkerCrashedError(
        "The process that ran the callable on the Ray cluster died, by a signal, a crash in native code, "
        f"os._exit or the loss of its node: {error['message']}"
    )


def _out_of_memory(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    tried = f" It was tried {error['starts']} times." if "starts" in error else ""
    return RayOutOfMemoryError(
        "Ray stopped the callable because its node ran out of memory. Reserve what it needs with memory=<bytes>, "
        f"or use a larger node.{tried} {error.get('message', '')}".rstrip()
    )


def _infeasible(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RaySchedulingError(
        f"No node of the Ray cluster can ever run this task: it asked for {_resources(error['asked'])}, and the "
        f"nodes have {_nodes(error['nodes'])}. Ask for less, or set scheduling_timeout to wait for a larger node."
    )


def _scheduling_timeout(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RaySchedulingError(
        f"The task did not start within scheduling_timeout={error['seconds']:g} seconds: it asked for "
        f"{_resources(error['asked'])}, and the nodes have {_nodes(error['nodes'])} in all."
    )


def _unschedulable(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RaySchedulingError(f"Ray cannot schedule this task: {error['message']}")


def _options(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayConfigurationError(f"Ray does not take the options of this task: {error['message']}")


def _no_object(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    missing: ObjectURI = error.get("uri", uri)
    reason = {None: "its owner does not know it", "SUCCEEDED": "the task has no output of that name"}.get(
        error["state"], f"its task is {error['state']}"
    )
    return object_lost(missing, reason)


def _input_lost(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayObjectLostError(
        f"An input of the task was lost with the node or process that held it: {error['message']}. "
        "Clear the task that made it."
    )


def _trial_infeasible(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RaySchedulingError(
        f"No node of the Ray cluster can ever run a trial: it asks for {_resources(error['asked'])}, and the nodes "
        f"have {_nodes(error['nodes'])}. Ask for less in resources_per_trial, or set scheduling_timeout to search all "
        "the same."
    )


def _tune_trials_failed(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayTuneTrialsFailedError(
        f"All {error['trials']} trials failed, {error['alike']} of them alike. The first one:\n\n{error['traceback']}"
    )


def _tune_metric(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayTuneMetricError(
        f"No trial reported the metric {error['metric']!r} as a number: {error['message']}. Report it in each "
        "tune.report() of the trainable, or name another metric."
    )


def _tune_no_trials(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayTuneError("The search ended without a trial: time_budget_s or stop ended it before the first one")


def _tune_storage(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayTuneStorageError(
        f"The state of the search cannot be written at {error['where']}: {error['message']}. Check storage_path, and "
        "what the credentials of storage_conn_id, or the processes of the cluster, may write."
    )


def _tune_option(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayConfigurationError(
        f"The scheduler or search algorithm {error['name']!r} cannot be made on the Ray cluster: {error['message']}"
    )


def _tune_checkpoint(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return RayTuneCheckpointError(
        f"load_best_checkpoint found nothing to load: {error['message']}. Report a checkpoint in the trainable, or "
        "give load_best_checkpoint a function that takes the folder of the checkpoint and returns what it holds."
    )


def _checkpoint(cls: type[AirflowRayError], advice: str) -> Callable[[ObjectURI, dict[str, Any]], AirflowRayError]:
    def build(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
        return cls(f"The checkpoint of {uri} failed at {error['where']}: {error['message']}. {advice}")

    return build


def _unexpected(uri: ObjectURI, error: dict[str, Any]) -> AirflowRayError:
    return AirflowRayError(f"Ray reports {error.get('type')}: {error.get('message')}")


def _resources(amounts: dict[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(amounts.items())) or "nothing"


def _nodes(nodes: list[dict[str, float]]) -> str:
    return "; ".join(_resources(node) for node in nodes[:5]) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")


_BUILDERS: dict[str, Callable[[Any, dict[str, Any]], AirflowException]] = {
    "callable": _callable,
    "unpickle": _unpickle,
    "not_picklable": _not_picklable,
    "not_readable": _not_readable,
    "not_json": _not_json,
    "json_too_large": _json_too_large,
    "not_a_dict": _not_a_dict,
    "runtime_env": _runtime_env,
    "worker_crashed": _worker_crashed,
    "out_of_memory": _out_of_memory,
    "infeasible": _infeasible,
    "scheduling_timeout": _scheduling_timeout,
    "unschedulable": _unschedulable,
    "options": _options,
    "no_object": _no_object,
    "trial_infeasible": _trial_infeasible,
    "tune_checkpoint": _tune_checkpoint,
    "tune_metric": _tune_metric,
    "tune_no_trials": _tune_no_trials,
    "tune_option": _tune_option,
    "tune_storage": _tune_storage,
    "tune_trials_failed": _tune_trials_failed,
    "input_lost": _input_lost,
    "checkpoint_not_found": _checkpoint(
        RayCheckpointNotFoundError, "Clear the task that makes it, with checkpoint=True."
    ),
    "checkpoint_access": _checkpoint(
        RayCheckpointAccessError, "Check bucket, region and endpoint, and what the credentials allow."
    ),
    "checkpoint_storage": _checkpoint(RayCheckpointStorageError, "Try again when the storage answers and has room."),
    "checkpoint_corrupt": _checkpoint(
        RayCheckpointCorruptError, "Delete this checkpoint and clear the task that makes it."
    ),
    "checkpoint_signature": _checkpoint(
        RayCheckpointSignatureError,
        "It was written by an Airflow with another [core] fernet_key, or by somebody else. Give all workers the same "
        "key, keep earlier keys after the current one, or clear the task that makes it.",
    ),
    "checkpoint_version": _checkpoint(RayCheckpointVersionError, "Install the release of airflow-ray that wrote it."),
    "checkpoint_not_picklable": _checkpoint(
        RayPicklingError, "What a checkpoint cannot hold, such as a lock or an actor, must stay out of the result."
    ),
    "checkpoint_package": _checkpoint(
        RayPicklingError,
        "The cluster needs the packages that the value was made with; its manifest tells their versions.",
    ),
}
