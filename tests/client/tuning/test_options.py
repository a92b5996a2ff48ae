"""What a search asks for, as templates have left it."""

from __future__ import annotations

import pytest

from airflow_ray.client.tuning import algorithm, is_plain, sample_count, trial_resources, values_of_templates
from airflow_ray.exceptions import RayConfigurationError


@pytest.mark.parametrize(
    ("template", "rendered", "value"),
    [
        ("{{ x }}", "3", 3),
        ("{{ x }}", "{'uniform': [0, 1]}", {"uniform": [0, 1]}),
        ("3", "3", "3"),
        ({"a": ["{{ x }}", "2"]}, {"a": ["1", "2"]}, {"a": [1, "2"]}),
        ("{{ x }}", {"native": 1}, {"native": 1}),
    ],
)
def test_only_what_was_a_template_becomes_a_value(template, rendered, value):
    assert values_of_templates(template, rendered) == value


@pytest.mark.parametrize(
    ("space", "plain"),
    [({"x": [1, "a"]}, True), ({"x": "{{ y }}"}, False), ({"x": ["{% if y %}1{% endif %}"]}, False)],
)
def test_space_with_a_template_cannot_be_checked_early(space, plain):
    assert is_plain(space) is plain


@pytest.mark.parametrize(("value", "count"), [(3, 3), ("20", 20), (-1, -1), ("-1", -1), (None, 1), ("None", 1)])
def test_number_of_samples_may_be_without_end_or_left_open(value, count):
    assert sample_count(value) == count


@pytest.mark.parametrize("value", [0, "-2", 2.5, "many", float("inf")])
def test_wrong_number_of_samples_is_refused(value):
    with pytest.raises(RayConfigurationError, match="num_samples must be a"):
        sample_count(value)


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_algorithm_and_resources_may_be_left_open(nothing):
    assert (algorithm("scheduler", nothing), trial_resources(nothing)) == (None, None)


def test_algorithm_is_an_object_a_name_or_a_name_with_arguments():
    chosen = object()
    assert algorithm("scheduler", chosen) is chosen
    assert algorithm("scheduler", "asha") == "asha"
    assert algorithm("scheduler", {"asha": {"max_t": 50}}) == {"asha": {"max_t": 50}}
    with pytest.raises(RayConfigurationError, match="scheduler must be a name with its arguments"):
        algorithm("scheduler", {"asha": 50})


def test_a_trial_that_asks_for_no_cpu_says_so():
    assert trial_resources("{'cpu': 0, 'gpu': '0', 'gadget': 0.5}") == {"cpu": 0, "gadget": 0.5}
