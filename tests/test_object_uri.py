"""Object URIs as texts."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ray.exceptions import ObjectURIError
from airflow_ray.object_uri import ObjectURI, is_object_uri

parts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(parts, parts, parts, parts, st.integers(-1, 2**63 - 1), parts)
def test_any_ids_survive_the_round_trip(conn_id, dag_id, run_id, task_id, map_index, key):
    uri = ObjectURI(conn_id, dag_id, run_id, task_id, map_index, key)
    assert ObjectURI.parse(str(uri)) == uri


def test_text_is_readable_and_has_one_slash_per_part():
    uri = ObjectURI("ray_default", "a/b ü", "manual__2026-01-01T00:00:00+00:00", "group.task", 3)
    assert str(uri) == (
        "ray-object://ray_default/a%2Fb%20%C3%BC/manual__2026-01-01T00%3A00%3A00%2B00%3A00/group.task/3/return_value"
    )


@pytest.mark.parametrize(
    "text",
    [
        "ray-object://",
        "ray-object://ray_default/dag/run/task/-1",
        "ray-object://ray_default/dag/run/task/-1/return_value/more",
        "ray-object://ray_default//run/task/-1/return_value",
        "ray-object://ray_default/dag/run/task/first/return_value",
        "ray-object://ray_default/dag/run/task/-2/return_value",
        "ray-object://ray_default/dag/run/task/01/return_value",
        "ray-object://ray_default/dag/run/a b/-1/return_value",
        "ray-object://ray_default/dag/run/%FF/-1/return_value",
        "ray-object://ray_default/dag/run/task/-1/return_value\n",
    ],
)
def test_malformed_text_is_refused_with_the_text_in_the_message(text):
    with pytest.raises(ObjectURIError, match="malformed object URI") as caught:
        ObjectURI.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", ["ray-objects://a", "see ray-object://a", "", None, 3, b"ray-object://a"])
def test_what_merely_looks_similar_is_no_object_uri(value):
    assert not is_object_uri(value)


@pytest.mark.parametrize("map_index", [True, 1.0, "1", None, -2])
def test_map_index_of_the_wrong_kind_is_refused(map_index):
    with pytest.raises(ObjectURIError, match="map_index"):
        ObjectURI("c", "d", "r", "t", map_index)


@pytest.mark.parametrize("empty", ["", None, 1])
def test_empty_part_is_refused(empty):
    with pytest.raises(ObjectURIError, match="run_id"):
        ObjectURI("c", "d", empty, "t")


@pytest.mark.parametrize("text", ["\ud800", "task\udfff"])
def test_half_of_a_character_is_refused(text):
    with pytest.raises(ObjectURIError, match="task_id"):
        ObjectURI("c", "d", "r", text)
    with pytest.raises(ObjectURIError, match="malformed"):
        ObjectURI.parse(f"ray-object://c/d/r/{text}/-1/return_value")


@pytest.mark.parametrize("map_index", [2**63, 10**5000], ids=["large", "too large to be written"])
def test_map_index_that_is_too_large_is_refused(map_index):
    with pytest.raises(ObjectURIError, match="map_index"):
        ObjectURI("c", "d", "r", "t", map_index)


def test_outputs_of_one_task_share_its_record():
    uri = ObjectURI("c", "d", "r", "t")
    assert uri.with_key("train").record_id == uri.record_id


def test_order_is_that_of_the_parts():
    first, second = ObjectURI("c", "d", "r", "t", 2), ObjectURI("c", "d", "r", "t", 10)
    assert sorted([second, first]) == [first, second]


def test_pickles():
    uri = ObjectURI("c", "d", "r", "t", 2)
    assert pickle.loads(pickle.dumps(uri)) == uri


REGION = "0123456789abcdef0123456789abcdef.2"


def test_iterations_of_a_loop_have_names_of_their_own():
    uri = ObjectURI("c", "d", "r", "t", region=REGION)
    assert str(uri) == f"ray-object://c/d/r/t/-1~{REGION}/return_value"
    assert ObjectURI.parse(str(uri)) == uri
    assert uri.record_id != ObjectURI("c", "d", "r", "t").record_id


@pytest.mark.parametrize("region", [None, 2, "2", "abc.2", f"{REGION}.1", REGION.upper()])
def test_region_of_the_wrong_kind_is_refused(region):
    with pytest.raises(ObjectURIError, match="region"):
        ObjectURI("c", "d", "r", "t", region=region)


@pytest.mark.parametrize("index", ["-1~", "-1~x", f"-1~{REGION}~", f"~{REGION}"])
def test_malformed_region_is_refused(index):
    with pytest.raises(ObjectURIError, match="malformed"):
        ObjectURI.parse(f"ray-object://c/d/r/t/{index}/return_value")
