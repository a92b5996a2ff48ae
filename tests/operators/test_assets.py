"""What the events of a task's assets tell of the objects that it has made."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.assets import MAX_OBJECTS, tell_assets

ASSET = Asset("measurements")
TABLE = {"type": "pandas.DataFrame", "shape": [3, 2], "bytes": 48}


def extra_of(outputs: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    events = OutletEventAccessors()
    events[ASSET].extra = before or {}
    tell_assets({"outlet_events": events}, [AssetAlias("other"), ASSET], ObjectURI("c", "d", "r", "t"), outputs)
    return events[ASSET].extra


def test_event_tells_uri_type_rows_columns_and_bytes_of_the_object():
    assert extra_of({"return_value": TABLE}) == {
        "object_uri": "ray-object://c/d/r/t/-1/return_value",
        "type": "pandas.DataFrame",
        "rows": 3,
        "columns": 2,
        "bytes": 48,
    }


def test_event_tells_the_length_of_a_list_as_its_rows():
    assert extra_of({"return_value": {"type": "list", "length": 5, "bytes": 9}})["rows"] == 5


def test_event_tells_where_the_checkpoint_lies():
    told = {**TABLE, "checkpoint": {"path": "s3://bucket/table", "error": None}}
    assert extra_of({"return_value": told})["checkpoint"] == "s3://bucket/table"


def test_event_tells_no_checkpoint_that_was_not_written():
    assert "checkpoint" not in extra_of({"return_value": {**TABLE, "checkpoint": {"error": {"message": "no"}}}})


def test_event_tells_each_of_several_objects_by_its_key():
    told = extra_of({"train": TABLE, "test": TABLE})
    assert [*told["objects"]] == ["train", "test"]
    assert told["objects"]["test"]["object_uri"] == "ray-object://c/d/r/t/-1/test"


def test_event_tells_a_bounded_number_of_objects():
    assert len(extra_of({str(number): TABLE for number in range(MAX_OBJECTS + 1)})["objects"]) == MAX_OBJECTS


def test_what_somebody_else_has_put_there_stays():
    assert (
        extra_of({"return_value": TABLE}, before={"type": "mine", "more": 1}).items()
        >= {"type": "mine", "more": 1}.items()
    )


def test_value_that_is_no_object_adds_nothing():
    assert extra_of({"return_value": {"type": "int"}}) == {}
