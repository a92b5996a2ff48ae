"""Each kind of failure has its exception, and a text with what happened, where and what to do."""

from __future__ import annotations

import re

import pytest

from airflow_ray import exceptions
from airflow_ray._compat import AirflowFailException, AirflowSkipException
from airflow_ray.client import errors
from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.protocol import FailureKind, State
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray_default", "sales", "monday", "train")
INPUT = ObjectURI("ray_default", "sales", "monday", "load", 2, "frame")
# All that any kind tells.
DETAILS = {
    "type": "KeyError",
    "message": "the cause",
    "traceback": "Traceback: the cause",
    "what": "actor Trainer that asks for CPU 64",
    "where": "s3://bucket/x",
    "bytes": 2_000_000,
    "limit": 1_000_000,
    "release": "0.1.0",
    "newer_release": "0.2.0",
    "asked": {"CPU": 64.0},
    "nodes": [{"CPU": 4.0}, {"CPU": 2.0, "gadget": 1.0}],
    "seconds": 30.0,
    "metric": "loss",
    "name": "hebo",
    "trials": 5,
    "alike": 3,
    "record_id": INPUT.record_id,
    "key": INPUT.key,
    "state": State.FAILED.value,
}
# A submit that goes on with earlier work has not failed.
FAILURES = list(FailureKind)
ROWS = {kind: row for kind, row in errors._TABLE.items() if isinstance(row, errors._Row)}


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.value)
def test_each_kind_of_failure_is_in_the_table(kind):
    assert kind in errors._TABLE


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.value)
def test_text_of_each_kind_is_whole(kind):
    text = str(errors.exception_from(URI, failure(kind, **DETAILS)))
    # The one that shows how runtime_env is written.
    assert not {"{", "}"}.intersection(text.replace("{'pip': [...]}", ""))
    assert "..." not in text.replace("[...]", "")
    assert "None" not in text


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.value)
def test_text_of_each_kind_speaks_of_what_users_know(kind):
    words = re.findall(r"[a-z]+", str(errors.exception_from(URI, failure(kind, **DETAILS))).lower())
    assert not {"owner", "keeper", "gateway", "runner", "record"}.intersection(words)


@pytest.mark.parametrize("kind", ROWS, ids=str)
def test_each_row_says_what_to_do(kind):
    row = ROWS[kind]
    text = str(errors.exception_from(URI, failure(FailureKind(kind), **DETAILS)))
    assert row.remedy.endswith((".", ":"))
    assert row.remedy.replace("{{", "{").replace("}}", "}") in text


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        (FailureKind.CANCELLED, exceptions.RayTaskCancelledError),
        (FailureKind.RETIRED, exceptions.RayVersionMismatchError),
        (FailureKind.INFEASIBLE, exceptions.RaySchedulingError),
        (FailureKind.CHECKPOINT_CORRUPT, exceptions.RayCheckpointCorruptError),
        (FailureKind.RAY, exceptions.AirflowRayError),
    ],
)
def test_kind_has_its_class(kind, cls):
    assert type(errors.exception_from(URI, failure(kind, **DETAILS))) is cls


def test_kind_of_a_newer_cluster_is_told_as_it_came():
    error = errors.exception_from(URI, {"kind": "out_of_luck", "type": "LuckError", "message": "none left"})
    assert type(error) is exceptions.AirflowRayError
    assert "out_of_luck, LuckError: none left" in str(error)


def test_resources_are_told_by_name_and_of_a_few_nodes():
    nodes = [{"CPU": float(number)} for number in range(1, 8)]
    error = failure(FailureKind.INFEASIBLE, asked={"gadget": 0.5, "CPU": 64.0}, nodes=nodes)
    text = str(errors.exception_from(URI, error))
    assert "asked for CPU 64, gadget 0.5, and the nodes have CPU 1; CPU 2; CPU 3; CPU 4; CPU 5 and 2 more." in text


def test_braces_in_a_message_are_left_as_they_are():
    error = failure(FailureKind.OPTIONS, message="{'a': {0}}")
    assert "{'a': {0}}" in str(errors.exception_from(URI, error))


@pytest.mark.parametrize("cls", [AirflowSkipException, AirflowFailException])
def test_what_airflow_understands_is_raised_as_such(cls):
    name = f"airflow.exceptions.{cls.__name__}"
    error = errors.exception_from(URI, failure(FailureKind.CALLABLE, type=name, message="enough", traceback=""))
    assert (type(error), str(error)) == (cls, "enough")


def test_class_of_a_user_with_airflow_s_name_fails_the_task():
    error = failure(FailureKind.CALLABLE, type="mine.AirflowSkipException", message="enough", traceback="")
    assert type(errors.exception_from(URI, error)) is exceptions.RayTaskFailedError


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "the cluster does not know it"),
        (State.SUCCEEDED, "the task has no output of that name"),
        (State.FAILED, "its task is FAILED"),
    ],
)
def test_object_that_is_not_there_is_named_with_the_task_that_makes_it(state, reason):
    told = failure(FailureKind.NO_OBJECT, record_id=INPUT.record_id, key=INPUT.key, state=state and state.value)
    error = errors.exception_from(URI, told)
    assert isinstance(error, exceptions.RayObjectLostError)
    assert f"There is no object {INPUT} in the Ray cluster: {reason}." in str(error)
    assert "'load' with map index 2" in str(error)


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING])
def test_object_of_work_that_goes_on_is_to_be_waited_for(state):
    told = failure(FailureKind.NO_OBJECT, record_id=INPUT.record_id, key=INPUT.key, state=state.value)
    error = errors.exception_from(URI, told)
    assert isinstance(error, exceptions.RayObjectLostError)
    assert f"The object {INPUT} is not there yet: its task is {state.value}. Wait for it first" in str(error)


@pytest.mark.parametrize(("starts", "said"), [({}, False), ({"starts": 3}, True)])
def test_lack_of_memory_tells_how_often_it_was_tried(starts, said):
    text = str(errors.exception_from(URI, failure(FailureKind.OUT_OF_MEMORY, **starts)))
    assert ("It was tried 3 times." in text) is said


GiB = 1024**3
FULL = {
    "node": "10.0.0.7",
    "node_used": 61 * GiB // 2,
    "node_has": 32 * GiB,
    "reserved": 4 * GiB,
    "used": 11 * GiB,
    "works": [
        {"record_id": "sales/manual__1/load/-1", "reserved": None, "used": GiB},
        {"record_id": "sales/manual__1/join/3", "reserved": 2 * GiB, "used": 14 * GiB},
    ],
    "processes": [{"name": "ray::Trainer.train", "used": 3 * GiB}, {"name": "gcs_server", "used": GiB // 10}],
    "message": "a page",
}


def test_lack_of_memory_tells_the_node_what_was_asked_and_who_else_was_there():
    text = str(errors.exception_from(URI, failure(FailureKind.OUT_OF_MEMORY, **FULL)))
    assert text == (
        "Ray stopped the callable because its node 10.0.0.7 ran out of memory: 30.5 GiB of 32 GiB were in use there. "
        "The task had reserved 4 GiB and used 11 GiB. Others that were there: task 'join' with map index 3 of DAG "
        "'sales' in run 'manual__1', which had reserved 2 GiB and used 14 GiB; 'ray::Trainer.train' with 3 GiB; task "
        "'load' of DAG 'sales' in run 'manual__1', which had reserved no memory and used 1 GiB. Reserve what it needs "
        "with memory=<bytes>, or use a larger node."
    )


def test_lack_of_memory_of_which_ray_tells_little_says_what_is_known():
    told = {"node": None, "reserved": None, "used": None, "works": [], "processes": [], "message": "it was full"}
    text = str(errors.exception_from(URI, failure(FailureKind.OUT_OF_MEMORY, **told)))
    assert text == (
        "Ray stopped the callable because its node ran out of memory. The task had reserved no memory. Reserve what it "
        "needs with memory=<bytes>, or use a larger node. it was full"
    )


def test_lack_of_memory_names_the_largest_of_many():
    works = [{"record_id": f"d/r/t/{number}", "reserved": None, "used": None} for number in range(9)]
    text = str(errors.exception_from(URI, failure(FailureKind.OUT_OF_MEMORY, **{**FULL, "works": works})))
    assert "'ray::Trainer.train' with 3 GiB; task 't' with map index 0" in text
    assert text.count("map index") == 4
    assert "; and 5 more." in text


def test_lost_object_names_its_checkpoint():
    missing = failure(FailureKind.CHECKPOINT_NOT_FOUND, where="s3://bucket/x", message="there is none")
    assert "there is no checkpoint at s3://bucket/x" in str(errors.restore_error(URI, missing))
    broken = failure(FailureKind.CHECKPOINT_CORRUPT, where="s3://bucket/x", message="cut short")
    error = errors.restore_error(URI, broken)
    assert isinstance(error, exceptions.RayCheckpointCorruptError)
    assert "Its checkpoint is of no help" in str(error)


@pytest.mark.parametrize(
    ("record", "cls"),
    [
        ({"state": State.CANCELLED.value, "error": None}, exceptions.RayTaskCancelledError),
        ({"state": State.LOST.value}, exceptions.RayObjectLostError),
        (
            {"state": State.FAILED.value, "error": failure(FailureKind.WORKER_CRASHED, message="signal 9")},
            exceptions.RayWorkerCrashedError,
        ),
    ],
)
def test_record_without_success_has_its_exception(record, cls):
    assert type(errors.exception_for(URI, record)) is cls
