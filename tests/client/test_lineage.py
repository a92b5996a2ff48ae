"""What is told of work, from plain records: datasets by their names, columns, sizes, and what the work took."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ray.client.lineage import MAX_OBJECTS, Dataset, inputs_of, named_in, outputs_of, resources_of
from airflow_ray.object_uri import ObjectURI

RUN = "manual__2026-01-01T00:00:00+00:00"
URI = ObjectURI("warehouse", "sales", RUN, "load")
TABLE = {"type": "pandas.DataFrame", "shape": [3, 2], "bytes": 48, "columns": [["shop", "object"], ["sum", "int64"]]}
SAVED = {"path": "s3://lake/ray/sales/load", "format": "pandas", "bytes": 700, "files": 2, "rows": 3, "error": None}
COLUMNS = (("shop", "object"), ("sum", "int64"))


def read(source: str, output: dict[str, Any] | None = None) -> dict[str, Any]:
    told = {"record_id": URI.record_id, "key": "return_value", "source": source}
    return {"inputs": [told if output is None else {**told, "output": output}]}


def test_object_has_the_authority_of_its_uri_as_namespace_and_the_rest_as_name():
    (told,) = outputs_of(URI, {"outputs": {"return_value": TABLE}})
    assert f"{told.namespace}/{told.name}" == str(URI)
    assert told.namespace == "ray-object://warehouse"


def test_object_has_a_logical_name_that_each_run_has_in_common():
    (told,) = outputs_of(URI, {"outputs": {"return_value": TABLE}})
    assert told.logical_name == "sales/load/return_value"


def test_object_tells_columns_rows_and_bytes():
    (told,) = outputs_of(URI, {"outputs": {"return_value": TABLE}})
    assert (told.columns, told.rows, told.bytes, told.files) == (COLUMNS, 3, 48, None)


def test_list_tells_its_length_as_rows():
    (told,) = outputs_of(URI, {"outputs": {"return_value": {"type": "list", "length": 5, "bytes": 9}}})
    assert (told.columns, told.rows) == ((), 5)


def test_number_tells_its_bytes_only():
    (told,) = outputs_of(URI, {"outputs": {"return_value": {"type": "numpy.float64", "shape": [], "bytes": 9}}})
    assert (told.columns, told.rows, told.bytes) == ((), None, 9)


def test_checkpoint_is_an_output_of_its_own():
    _, saved = outputs_of(URI, {"outputs": {"return_value": {**TABLE, "checkpoint": SAVED}}})
    assert saved == Dataset("s3://lake", "ray/sales/load", None, COLUMNS, rows=3, bytes=700, files=2, format="pandas")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("s3://bucket/prefix/a b", ("s3://bucket", "prefix/a b")),
        ("gs://bucket/prefix/x", ("gs://bucket", "prefix/x")),
        ("file:///folder/x%3Ay", ("file", "/folder/x%3Ay")),
    ],
)
def test_checkpoint_is_named_as_the_rules_of_openlineage_want(path, name):
    _, saved = outputs_of(URI, {"outputs": {"return_value": {**TABLE, "checkpoint": {**SAVED, "path": path}}}})
    assert (saved.namespace, saved.name) == name


def test_checkpoint_that_was_not_written_is_no_output():
    failed = {**TABLE, "checkpoint": {"error": {"message": "no", "where": "s3://lake/ray"}}}
    assert len(outputs_of(URI, {"outputs": {"return_value": failed}})) == 1


def test_value_that_came_back_is_no_output():
    assert outputs_of(URI, {"outputs": {"return_value": {"type": "int"}}}) == []


def test_input_tells_what_is_known_of_the_object():
    (told,) = inputs_of("warehouse", read("store", {**TABLE, "checkpoint": SAVED}))
    assert f"{told.namespace}/{told.name}" == str(URI)
    assert (told.columns, told.rows, told.bytes) == (COLUMNS, 3, 48)


def test_input_that_was_restored_tells_the_checkpoint_too():
    _, saved = inputs_of("warehouse", read("checkpoint", {**TABLE, "checkpoint": SAVED}))
    assert (saved.namespace, saved.name, saved.rows) == ("s3://lake", "ray/sales/load", 3)


@pytest.mark.parametrize("output", [None, {}])
def test_input_of_which_nothing_is_known_is_named(output):
    (told,) = inputs_of("warehouse", read("checkpoint", output))
    assert (f"{told.namespace}/{told.name}", told.rows, told.bytes) == (str(URI), None, None)


def test_event_names_a_bounded_number_of_objects():
    outputs = {str(number): TABLE for number in range(MAX_OBJECTS + 1)}
    inputs = [{**read("store")["inputs"][0], "key": key} for key in outputs]
    uris = [str(URI.with_key(key)) for key in outputs]
    assert len(outputs_of(URI, {"outputs": outputs})) == MAX_OBJECTS
    assert len(inputs_of("warehouse", {"inputs": inputs})) == MAX_OBJECTS
    assert len(named_in(uris)) == MAX_OBJECTS


def test_objects_are_found_however_nested_and_once():
    other = URI.with_key("other")
    told = named_in([str(URI), {"a": [(str(other),), {str(URI)}], "b": 3}, "ray-object://malformed", object()])
    assert [f"{each.namespace}/{each.name}" for each in told] == [str(URI), str(other)]


def test_resources_tell_what_was_reserved_and_used():
    record = {
        "state": "SUCCEEDED",
        "node": "10.0.0.1",
        "submitted_at": 100.0,
        "started_at": 102.5,
        "finished_at": 110.0,
        "asked": {"CPU": 2},
        "used": {"seconds": 7.0, "cpu_seconds": 6.0, "memory": 10**9, "gpu_memory": None, "gpu_total": None},
        "children_used": {"processes": 3, "memory": 10**8, "cpu_seconds": 4.0},
        "read_bytes": 48,
        "written_bytes": 24,
        "spilled_bytes": 0,
    }
    assert resources_of(record) == {
        "state": "SUCCEEDED",
        "node": "10.0.0.1",
        "requested": {"CPU": 2},
        "queuedSeconds": 2.5,
        "elapsedSeconds": 7.5,
        "cpuSeconds": 6.0,
        "peakMemoryBytes": 10**9,
        "peakGpuMemoryBytes": None,
        "childProcesses": 3,
        "childCpuSeconds": 4.0,
        "childPeakMemoryBytes": 10**8,
        "readBytes": 48,
        "writtenBytes": 24,
        "spilledBytes": 0,
    }


def test_resources_of_work_that_never_began_are_what_was_reserved():
    told = resources_of({"state": "FAILED", "submitted_at": 1.0, "started_at": None, "finished_at": 9.0, "asked": {}})
    assert {name: value for name, value in told.items() if value} == {"state": "FAILED"}
