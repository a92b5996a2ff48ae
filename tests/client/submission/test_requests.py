"""What a task asks of the cluster, before it reaches Ray."""

from __future__ import annotations

import pytest

from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.tuning import options as search_options
from airflow_ray.exceptions import RayConfigurationError


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), (" 0.5 ", 0.5), ("1e9", 1_000_000_000)],
)
def test_number_that_a_template_left_as_text_is_parsed(text, number):
    assert RemoteOptions(num_cpus=text).for_ray(None)["num_cpus"] == number


def test_mapping_that_a_template_left_as_text_is_parsed():
    options = RemoteOptions(resources="{'gadget': '1'}", runtime_env='{"env_vars": {"A": "b"}}').for_ray(None)
    assert options["resources"] == {"gadget": 1}
    assert options["runtime_env"] == {"env_vars": {"A": "b"}}


@pytest.mark.parametrize("empty", [None, "", "None"])
def test_empty_memory_reserves_none(empty):
    assert "memory" not in RemoteOptions(memory=empty).for_ray(None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", -1),
        ("num_cpus", "many"),
        ("num_cpus", None),
        ("num_cpus", True),
        ("num_gpus", float("nan")),
        ("num_gpus", float("inf")),
        ("memory", "2GB"),
        ("resources", {"gadget": -1}),
        ("resources", ["gadget"]),
        ("runtime_env", "pip: x"),
        ("max_retries", -2),
        ("max_retries", 1.5),
        ("scheduling_timeout", -1),
        ("result", "file"),
        ("ray_options", {"num_returns": 2}),
        ("ray_options", {"_generator_backpressure_num_objects": 1}),
    ],
)
def test_wrong_value_is_refused_by_name(name, value):
    with pytest.raises(RayConfigurationError, match=name):
        RemoteOptions(**{name: value})


def test_runtime_env_of_the_task_goes_over_that_of_the_connection():
    options = RemoteOptions(runtime_env={"pip": ["b"], "env_vars": {"B": "task"}})
    connection = {"pip": ["a"], "working_dir": "s3://bucket/w.zip", "env_vars": {"A": "connection", "B": "connection"}}
    assert options.for_ray(connection)["runtime_env"] == {
        "pip": ["b"],
        "working_dir": "s3://bucket/w.zip",
        "env_vars": {"A": "connection", "B": "task"},
    }


def test_resources_of_ray_options_and_of_the_task_are_joined():
    options = RemoteOptions(resources={"a": 1}, ray_options={"resources": {"b": 2}})
    assert options.for_ray(None)["resources"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("given", "amounts"),
    [(None, None), ("{'cpu': 2, 'gpu': '0'}", {"cpu": 2}), ({"cpu": 0, "gpu": "0.5"}, {"cpu": 0, "gpu": 0.5})],
)
def test_resources_of_a_trial_are_parsed(given, amounts):
    assert search_options.trial_resources(given) == amounts
