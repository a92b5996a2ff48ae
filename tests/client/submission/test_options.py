"""The options of one submit: what they hide, what they leave alone, what they refuse."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.exceptions import RayConfigurationError

RUNTIME_ENV = {"pip": ["x"], "env_vars": {"TOKEN": "a-secret"}}


def test_repr_does_not_show_the_runtime_env():
    assert "a-secret" not in repr(RemoteOptions(runtime_env=RUNTIME_ENV))


@pytest.mark.parametrize("wrong", [{"num_cpus": "many"}, {"no_such_option": 1}, {"multiple_outputs": "perhaps"}])
def test_error_does_not_show_the_runtime_env(wrong):
    with pytest.raises(RayConfigurationError, match=next(iter(wrong))) as caught:
        RemoteOptions(runtime_env=RUNTIME_ENV, **wrong)
    assert "a-secret" not in f"{caught.value}{caught.value.__cause__}"
    assert caught.value.__suppress_context__


def test_what_the_caller_gave_is_left_as_it_was():
    given = {
        "resources": {"gadget": "1"},
        "runtime_env": {"env_vars": {"A": 1}},
        "ray_options": {"resources": {"gizmo": "2"}, "name": "mine"},
    }
    connection = {"env_vars": {"B": "connection"}}
    before = copy.deepcopy((given, connection))
    options = RemoteOptions(**given)
    for_ray = options.for_ray(connection)
    for_ray["resources"]["other"] = for_ray["runtime_env"]["env_vars"]["other"] = 1
    assert (given, connection) == before
    assert options.for_ray(connection)["resources"] == {"gadget": 1, "gizmo": 2}


def test_options_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        RemoteOptions().num_cpus = 2


@pytest.mark.parametrize("name", ["checkpoint_source", "checkpoint_path", "storage_path", "storage_conn_id"])
@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_template_that_rendered_to_nothing_leaves_a_name_or_path_open(name, nothing):
    assert getattr(RemoteOptions(**{name: nothing}), name) is None


def test_text_that_native_rendering_made_a_number_is_a_text_again():
    options = RemoteOptions(checkpoint_source=42, runtime_env={"env_vars": {"PORT": 8080}})
    assert options.checkpoint_source == "42"
    assert options.runtime_env["env_vars"] == {"PORT": "8080"}


def test_resources_of_ray_options_are_checked_at_once():
    with pytest.raises(RayConfigurationError, match=r"ray_options\['resources'\]\['gadget'\]"):
        RemoteOptions(ray_options={"resources": {"gadget": "many"}})


@pytest.mark.slow
def test_parsing_a_dag_loads_neither_the_options_nor_what_airflow_does_not():
    script = (
        "import sys, json, airflow.sdk; before = set(sys.modules)\n"
        "import airflow_ray.operators.python, airflow_ray.operators.tune\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(json.dumps(['pydantic' in new, 'rich' in new, 'airflow_ray.client.submission.options' in sys.modules]))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout.splitlines()[-1]) == [False, False, False]


def test_fresh_process_has_an_environment_that_no_other_work_has():
    options = RemoteOptions(fresh_process=True, runtime_env={"env_vars": {"OF_TASK": "1"}})
    first, second = (options.for_ray({"env_vars": {"OF_ALL": "2"}})["runtime_env"]["env_vars"] for _ in range(2))
    assert (first["OF_TASK"], first["OF_ALL"]) == ("1", "2")
    assert first != second
