"""What the XCom beside the object URI tells."""

from __future__ import annotations

import json

from airflow_ray.client.object_xcom import MAX_COLUMNS_OF_EACH, MAX_OUTPUTS, told_of

FRAME = {"type": "pandas.DataFrame", "shape": [3, 2], "bytes": 64, "columns": [["a", "int64"], ["b", "object"]]}


def test_one_object_is_told_by_type_shape_bytes_and_columns():
    told = told_of({"return_value": {**FRAME, "checkpoint": {"path": "s3://somewhere"}}})
    assert told == {"type": "pandas.DataFrame", "shape": [3, 2], "bytes": 64, "columns": ["a: int64", "b: object"]}


def test_several_objects_are_told_by_their_keys():
    assert told_of({"left": FRAME, "n": {"type": "int", "bytes": 30}}) == {
        "left": {**FRAME, "columns": ["a: int64", "b: object"]},
        "n": {"type": "int", "bytes": 30},
    }


def test_value_that_comes_back_is_no_object():
    assert told_of({"return_value": {"type": "int"}}) is None


def test_task_without_outputs_tells_nothing():
    assert told_of({}) is None


def test_columns_of_a_kind_that_knows_no_types_are_told_by_name():
    assert told_of({"return_value": {"type": "modin", "bytes": 1, "columns": [["a", ""]]}})["columns"] == ["a"]


def test_what_many_objects_tell_is_bounded():
    wide = {**FRAME, "columns": [[f"{'x' * 80}{number}", "int64"] for number in range(30)]}
    told = told_of({f"return_value.{number}": wide for number in range(1000)})
    assert len(told) == MAX_OUTPUTS + 1
    assert len(told["return_value.0"]["columns"]) == MAX_COLUMNS_OF_EACH
    assert len(json.dumps(told)) < 30_000
