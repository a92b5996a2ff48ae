"""From the plain data in which the cluster tells a failure to the exception that a user sees: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ray import exceptions
from airflow_ray._compat import AirflowException, AirflowFailException, AirflowSkipException
from airflow_ray.client.failure_details import input_of, nodes_text, resources_text
from airflow_ray.client.memory_errors import out_of_memory
from airflow_ray.cluster.protocol import FailureKind, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.object_uri import ObjectURI


def exception_for(uri: ObjectURI, record: dict[str, Any]) -> AirflowException:
    """Return the exception for a record that ended without success.

    :param uri: any output of the record.
    :param record: what the cluster's ``describe`` returned; its state is FAILED, CANCELLED or LOST.
    """
    error = record.get("error")
    if record["state"] == State.CANCELLED:
        return exceptions.RayTaskCancelledError(f"The work for {uri} was cancelled. Clear the task to run it again.")
    if record["state"] == State.LOST or error is None:
        return exceptions.RayObjectLostError(
            f"The Ray cluster does not know the work for {uri}: it was released, by hand or since nobody used it for "
            f"as long as object_ttl says, or it was never submitted there, or the cluster was started anew meanwhile, "
            f"and the work and the objects that were there are lost. The next try starts the work anew; where there is "
            f"none left, clear task {uri.task_id!r} of DAG {uri.dag_id!r} in run {uri.run_id!r}."
        )
    return exception_from(uri, error)


def exception_from(uri: Any, error: dict[str, Any]) -> AirflowException:
    """Return the exception for an error that the cluster tells of ``uri``.

    :param uri: an object URI, or a text that names checkpoints.
    :param error: what :func:`airflow_ray.cluster.failures.failure` has made.
    """
    exception_of: Callable[[Any, dict[str, Any]], AirflowException] = _TABLE.get(error["kind"], _unknown)
    return exception_of(uri, error)


def object_lost(uri: ObjectURI, reason: str | None) -> exceptions.RayObjectLostError:
    """Return the error for an object that is not there, with what to do about it."""
    mapped = f" with map index {uri.map_index}" if uri.map_index >= 0 else ""
    mapped += f" in region {uri.region} of a loop" if uri.region else ""
    return exceptions.RayObjectLostError(
        f"There is no object {uri} in the Ray cluster{': ' + reason if reason else ''}. It is made by task "
        f"{uri.task_id!r}{mapped} of DAG {uri.dag_id!r} in run {uri.run_id!r}: clear that task to make it again."
    )


def restore_error(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    """Return the exception for a lost object whose checkpoint could not be read, with what to do about it."""
    if error["kind"] == FailureKind.CHECKPOINT_NOT_FOUND:
        return object_lost(uri, f"{_NOT_KNOWN}, and there is no checkpoint at {error['where']}")
    cause = exception_from(uri, error)
    return type(cause)(f"{object_lost(uri, _NOT_KNOWN)} Its checkpoint is of no help: {cause}")


# Their exceptions mean what Airflow's do: the cluster may have neither.
_PACKAGES = ("airflow", "airflow_ray")
_NOT_KNOWN = "the cluster does not know it"


@dataclass(frozen=True)
class _Row:
    """What a user is told of one kind of failure.

    :param exception: its class.
    :param text: what happened, and where; in braces the details of the failure, and ``uri``.
    :param remedy: what to do, likewise.
    :param shows_traceback: whether the traceback from the cluster follows.
    """

    exception: type[AirflowException]
    text: str
    remedy: str
    shows_traceback: bool = False

    def __call__(self, uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
        details = {
            "reason": "",
            **error,
            "uri": uri,
            "input": input_of(uri, error),
            "asked": resources_text(error.get("asked", {})),
            "nodes": nodes_text(error.get("nodes", [])),
        }
        text = f"{self.text} {self.remedy}".format_map(details)
        return self.exception(f"{text}\n\n{error.get('traceback', '')}".rstrip() if self.shows_traceback else text)


def _of_checkpoint(exception: type[AirflowException], remedy: str) -> _Row:
    return _Row(exception, "The checkpoint of {uri} failed at {where}: {message}.", remedy)


def _callable(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    # Of an owner of an earlier release, the class alone is known.
    names = [name.rpartition(".") for name in error.get("bases", [error["type"]])]
    of_airflow = {name for module, _, name in names if module.partition(".")[0] in _PACKAGES}
    for cls in (AirflowSkipException, AirflowFailException):
        if cls.__name__ in of_airflow:
            return cls(error["message"])
    return exceptions.RayTaskFailedError(error["type"], error["message"], error["traceback"])


def _no_object(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    if error["state"] is not None and not State(error["state"]).is_final:
        return exceptions.RayObjectLostError(
            f"The object {input_of(uri, error)} is not there yet: its task is {error['state']}. Wait for it first, "
            "with RayObjectSensor in a DAG or RayHook.wait elsewhere."
        )
    reason = {None: _NOT_KNOWN, State.SUCCEEDED.value: "the task has no output of that name"}.get(
        error["state"], f"its task is {error['state']}"
    )
    return object_lost(input_of(uri, error), reason)


def _unknown(uri: ObjectURI, error: dict[str, Any]) -> AirflowException:
    return exceptions.AirflowRayError(
        f"The Ray cluster reports an error of {uri} that this release of airflow-ray does not know: {error['kind']}, "
        f"{error.get('type')}: {error.get('message')}. Upgrade airflow-ray on this Airflow worker."
    )


_TABLE: dict[str, Callable[[Any, dict[str, Any]], AirflowException]] = {
    FailureKind.CALLABLE: _callable,
    FailureKind.UNPICKLE: _Row(
        exceptions.RayPicklingError,
        "The callable or an argument could not be unpickled on the Ray cluster: {type}: {message}.",
        "What it imports must be installed there, lie in the DAG folder, or be named in runtime_env, for example "
        "runtime_env={{'pip': [...]}}.",
        shows_traceback=True,
    ),
    FailureKind.INPUT_NOT_READABLE: _Row(
        exceptions.RayPicklingError,
        "The input {input} cannot be unpickled on the Ray cluster: {type}: {message}.",
        "What it was made with must be installed there, or be named in the runtime_env of this task as in that of the "
        "task that made it.",
        shows_traceback=True,
    ),
    FailureKind.NOT_PICKLABLE: _Row(
        exceptions.RayResultError,
        "The result of the callable cannot be pickled, so it cannot be kept in Ray's object store: {type}: {message}.",
        "Return plain data, and leave locks, connections and generators out of it.",
        shows_traceback=True,
    ),
    FailureKind.NOT_READABLE: _Row(
        exceptions.RayPicklingError,
        "The value for {uri} cannot be unpickled on the Ray cluster, which needs the packages it was made with: "
        "{type}: {message}.",
        "Install them there, or name them in the runtime_env of the connection.",
    ),
    FailureKind.NOT_JSON: _Row(
        exceptions.RayResultError,
        "result='value' needs a result that is JSON, and this is not: {message}.",
        "Convert it in the callable, for example by float(x) or x.tolist(), or leave it in the cluster with "
        "result='ref'.",
    ),
    FailureKind.JSON_TOO_LARGE: _Row(
        exceptions.RayResultError,
        "The result is {bytes:,} bytes as JSON, and result='value' takes {limit:,} at most, since it goes into "
        "Airflow's database.",
        "Leave it in the cluster with result='ref'.",
    ),
    FailureKind.NOT_SEVERAL: _Row(exceptions.RayResultError, "{message}.", "Return such a value."),
    FailureKind.RUNTIME_ENV: _Row(
        exceptions.RayRuntimeEnvError,
        "The runtime_env could not be built on the Ray cluster: {message}.",
        "Correct what the runtime_env of the task or of the connection names, and see that the nodes can download it.",
    ),
    FailureKind.WORKER_CRASHED: _Row(
        exceptions.RayWorkerCrashedError,
        "The process that ran the callable on the Ray cluster died, by a signal, a crash in native code, os._exit or "
        "the loss of its node: {message}.",
        "Give the task retries, or look at the logs of that node.",
    ),
    FailureKind.OUT_OF_MEMORY: out_of_memory,
    FailureKind.INFEASIBLE: _Row(
        exceptions.RaySchedulingError,
        "No node of the Ray cluster can ever run this task: it asked for {asked}, and the nodes have {nodes}.",
        "Ask for less, or set scheduling_timeout to wait for a larger node.",
    ),
    FailureKind.SCHEDULING_TIMEOUT: _Row(
        exceptions.RaySchedulingError,
        "The task did not start within scheduling_timeout={seconds:g} seconds: it asked for {asked}, and the nodes "
        "have {nodes} in all.{reason}",
        "Ask for less, wait longer, or let the cluster grow.",
    ),
    FailureKind.CHILD_INFEASIBLE: _Row(
        exceptions.RaySchedulingError,
        "The callable waits for what no node of the Ray cluster can ever give: {what}; the nodes have {nodes}.{reason}",
        "Let it ask for less there, or set scheduling_timeout to wait for larger nodes.",
    ),
    FailureKind.UNSCHEDULABLE: _Row(
        exceptions.RaySchedulingError,
        "Ray cannot schedule this task: {message}.",
        "Correct where ray_options want it to run, or give the task retries where that node is only gone for a while.",
    ),
    FailureKind.OPTIONS: _Row(
        exceptions.RayConfigurationError,
        "Ray does not take the options of this task: {message}.",
        "Correct its ray_options, resources or runtime_env.",
    ),
    FailureKind.NO_OBJECT: _no_object,
    FailureKind.CANCELLED: _Row(
        exceptions.RayTaskCancelledError,
        "The work for {uri} was cancelled before it could start.",
        "Clear the task to run it again.",
    ),
    FailureKind.RETIRED: _Row(
        exceptions.RayVersionMismatchError,
        "airflow-ray {newer_release} serves the Ray cluster and alone starts new work there; this is {release}.",
        "Upgrade airflow-ray on this Airflow worker.",
    ),
    FailureKind.INPUT_LOST: _Row(
        exceptions.RayObjectLostError,
        "An input of the task was lost with the node or process that held it: {message}.",
        "The next try takes it from its checkpoint; where there is none, clear the task that made it.",
    ),
    FailureKind.TRIAL_INFEASIBLE: _Row(
        exceptions.RaySchedulingError,
        "No node of the Ray cluster can ever run a trial: it asks for {asked}, and the nodes have {nodes}.",
        "Ask for less in resources_per_trial, or set scheduling_timeout to search all the same.",
    ),
    FailureKind.TUNE_TRIALS_FAILED: _Row(
        exceptions.RayTuneTrialsFailedError,
        "All {trials} trials failed, {alike} of them alike.",
        "Correct what the first one met:",
        shows_traceback=True,
    ),
    FailureKind.TUNE_METRIC: _Row(
        exceptions.RayTuneMetricError,
        "No trial reported the metric {metric!r} as a number: {message}.",
        "Report it in each tune.report() of the trainable, or name another metric.",
    ),
    FailureKind.TUNE_NO_TRIALS: _Row(
        exceptions.RayTuneError,
        "The search ended without a trial: time_budget_s or stop ended it before the first one.",
        "Give it more time, or another stop.",
    ),
    FailureKind.TUNE_STORAGE: _Row(
        exceptions.RayTuneStorageError,
        "The state of the search cannot be written at {where}: {message}.",
        "Check storage_path, and what the credentials of storage_conn_id, or the processes of the cluster, may write.",
    ),
    FailureKind.TUNE_OPTION: _Row(
        exceptions.RayConfigurationError,
        "The scheduler or search algorithm {name!r} cannot be made on the Ray cluster: {message}.",
        "Correct its name or arguments, or install there what it needs.",
    ),
    FailureKind.TUNE_CHECKPOINT: _Row(
        exceptions.RayTuneCheckpointError,
        "load_best_checkpoint found nothing to load: {message}.",
        "Report a checkpoint in the trainable, or give load_best_checkpoint a function that takes the folder of the "
        "checkpoint and returns what it holds.",
    ),
    FailureKind.CHECKPOINT_NOT_FOUND: _of_checkpoint(
        exceptions.RayCheckpointNotFoundError, "Clear the task that makes it, with checkpoint=True."
    ),
    FailureKind.CHECKPOINT_ACCESS: _of_checkpoint(
        exceptions.RayCheckpointAccessError,
        "Check bucket, region and endpoint, and what the credentials allow.",
    ),
    FailureKind.CHECKPOINT_STORAGE: _of_checkpoint(
        exceptions.RayCheckpointStorageError, "Try again when the storage answers, has room, and keeps what it is sent."
    ),
    FailureKind.CHECKPOINT_CORRUPT: _of_checkpoint(
        exceptions.RayCheckpointCorruptError, "Delete this checkpoint and clear the task that makes it."
    ),
    FailureKind.CHECKPOINT_SIGNATURE: _of_checkpoint(
        exceptions.RayCheckpointSignatureError,
        "It was written by an Airflow with another [core] fernet_key, or by somebody else. Give all workers the same "
        "key, keep earlier keys after the current one, or clear the task that makes it.",
    ),
    FailureKind.CHECKPOINT_VERSION: _of_checkpoint(
        exceptions.RayCheckpointVersionError, "Install the release of airflow-ray that wrote it."
    ),
    FailureKind.CHECKPOINT_NOT_PICKLABLE: _of_checkpoint(
        exceptions.RayPicklingError,
        "What a checkpoint cannot hold, such as a lock or an actor, must stay out of the result.",
    ),
    FailureKind.CHECKPOINT_PACKAGE: _of_checkpoint(
        exceptions.RayPicklingError,
        "The cluster needs the packages that the value was made with; its manifest tells their versions.",
    ),
    FailureKind.RAY: _Row(
        exceptions.AirflowRayError,
        "Ray reports {type}: {message}.",
        "Its logs may tell more, by default in /tmp/ray/session_latest/logs of each node.",
    ),
}
