"""What templates leave behind is read in one way by all options."""

from __future__ import annotations

import pytest

from airflow_ray.client.submission.rendered import (
    amount,
    amounts,
    is_nothing,
    limit,
    mapping,
    value_of,
    value_or_none,
    whole_limit,
)
from airflow_ray.exceptions import RayConfigurationError

NOTHING = [None, "", " ", "None", " None ", "null"]


@pytest.mark.parametrize("value", NOTHING)
def test_nothing_is_recognised(value):
    assert is_nothing(value)
    assert value_or_none(value) is None


@pytest.mark.parametrize("value", [0, "0", False, [], {}, "none of it"])
def test_what_says_something_is_not_nothing(value):
    assert not is_nothing(value)
    assert value_or_none(value) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ('{"a": true}', {"a": True}),
        ("{'a': True}", {"a": True}),
        ("[1, 2]", [1, 2]),
        ("asha", "asha"),
        ("{[]: 1}", "{[]: 1}"),
    ],
)
def test_text_is_read_as_json_or_as_python(text, value):
    assert value_of(text) == value


@pytest.mark.parametrize(("value", "number"), [("2", 2), (" 0.5 ", 0.5), (0, 0), ("1e9", 1_000_000_000), (2.0, 2)])
def test_amount_is_a_number_from_0_on(value, number):
    assert amount("num_cpus", value) == number


def test_whole_amount_is_an_int():
    assert isinstance(amount("num_cpus", "2.0"), int)


@pytest.mark.parametrize("read", [amount, limit, whole_limit])
@pytest.mark.parametrize("value", [-1, "many", True, [], float("nan"), float("inf"), "inf", 10**400])
def test_what_is_no_number_is_refused_by_name(read, value):
    with pytest.raises(RayConfigurationError, match="num_things must be a number"):
        read("num_things", value)


@pytest.mark.parametrize("value", NOTHING)
def test_amount_must_be_said(value):
    with pytest.raises(RayConfigurationError, match="num_cpus must be a number from 0 on"):
        amount("num_cpus", value)


@pytest.mark.parametrize("value", NOTHING)
def test_limit_may_be_left_open(value):
    assert (limit("time_budget_s", value), whole_limit("max_concurrent_trials", value)) == (None, None)


def test_limit_is_over_0():
    with pytest.raises(RayConfigurationError, match="time_budget_s must be a number over 0, got '0'"):
        limit("time_budget_s", "0")


def test_whole_limit_is_whole():
    assert whole_limit("num_samples", "20") == 20
    with pytest.raises(RayConfigurationError, match=r"num_samples must be a whole number, got '2\.5'"):
        whole_limit("num_samples", "2.5")


@pytest.mark.parametrize("value", [{"a": 1}, "{'a': 1}", '{"a": 1}'])
def test_mapping_may_be_a_text(value):
    assert mapping("resources", value) == {"a": 1}


@pytest.mark.parametrize("value", NOTHING)
def test_mapping_of_nothing_is_empty(value):
    assert mapping("resources", value) == {}


def test_mapping_is_a_copy():
    given = {"a": 1}
    mapping("resources", given)["b"] = 2
    assert given == {"a": 1}


@pytest.mark.parametrize("value", ["{'env_vars': {'TOKEN': 'a-secret'}", ["a-secret"]])
def test_message_does_not_show_what_is_no_mapping(value):
    with pytest.raises(RayConfigurationError, match="runtime_env must be a mapping") as caught:
        mapping("runtime_env", value)
    assert "a-secret" not in str(caught.value)


def test_amounts_leave_out_what_says_nothing():
    assert amounts("resources", {"gadget": "0.5", "gizmo": "None", "cpu": 0}) == {"gadget": 0.5, "cpu": 0}


def test_amounts_name_the_entry_that_is_wrong():
    with pytest.raises(RayConfigurationError, match=r"resources\['gadget'\] must be a number from 0 on, got -1"):
        amounts("resources", {"gadget": -1})
