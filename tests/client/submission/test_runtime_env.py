"""What becomes of a runtime environment that a user asks for."""

from __future__ import annotations

import json

import pytest
from ray.runtime_env import RuntimeEnv

from airflow_ray.client.submission import runtime_env as module
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.submission.runtime_env import KEYS, runtime_env_of
from airflow_ray.exceptions import RayConfigurationError


def test_keys_are_those_of_ray():
    fields = {key for key in RuntimeEnv.known_fields if not key.startswith("_")}
    assert fields <= KEYS
    # Ray keeps these under names of its own.
    assert KEYS - fields == {"nsight", "rocprof_sys"}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("env_var", "env_vars"),
        ("envVars", "env_vars"),
        ("PIP", "pip"),
        ("workdir", "working_dir"),
        ("py_module", "py_modules"),
    ],
)
def test_misspelt_key_is_an_error_that_names_the_nearest(wrong, right):
    with pytest.raises(RayConfigurationError, match=f"no key '{wrong}'; did you mean '{right}'"):
        runtime_env_of({wrong: {"TOKEN": "a-secret"}}, "runtime_env")


def test_key_that_may_be_of_a_plugin_is_told(mocker):
    warn = mocker.spy(module.log, "warning")
    assert runtime_env_of({"gcp_config": 1}, "runtime_env") == {"gcp_config": 1}
    assert "'gcp_config'" in warn.call_args.args[0] % warn.call_args.args[1:]


@pytest.mark.parametrize("wrong", [None, [], {"a": "b"}, (0, 1)])
def test_variable_that_is_no_text_is_refused_without_showing_it(wrong):
    with pytest.raises(RayConfigurationError, match=r"runtime_env\['env_vars'\]\['A'\] must be a text"):
        RemoteOptions(runtime_env={"env_vars": {"A": wrong}})


def test_variables_of_the_connection_are_texts_too():
    options = RemoteOptions().for_ray({"env_vars": {"THREADS": 4, "SHARE": 0.5}})
    assert options["runtime_env"]["env_vars"] == {"THREADS": "4", "SHARE": "0.5"}


@pytest.mark.parametrize("place", ["/opt/code", "code", "./code.zip"])
def test_local_folder_is_refused_with_what_to_do(place):
    with pytest.raises(RayConfigurationError, match=r"working_dir'\] is .* which only the Airflow worker has.*s3://"):
        runtime_env_of({"working_dir": place}, "runtime_env")
    with pytest.raises(RayConfigurationError, match=r"runtime_env of the connection\['py_modules'\]\[1\]"):
        RemoteOptions().for_ray({"py_modules": ["https://host/a.zip", place]})


def test_module_itself_is_refused_by_its_name():
    with pytest.raises(RayConfigurationError, match=r"\['py_modules'\]\[0\] is 'json'"):
        runtime_env_of({"py_modules": [json]}, "runtime_env")


def test_addresses_are_left_to_ray():
    given = {"working_dir": "s3://bucket/code.zip", "py_modules": ["file:///opt/code.zip", "gcs://_ray_pkg_1.zip"]}
    assert runtime_env_of(given, "runtime_env") == given


def test_files_with_requirements_are_read_here(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# needed\nlightgbm==4.6\n\nshap\n")
    assert runtime_env_of({"pip": str(requirements)}, "runtime_env") == {"pip": ["lightgbm==4.6", "shap"]}
    assert runtime_env_of({"uv": str(requirements)}, "runtime_env") == {"uv": ["lightgbm==4.6", "shap"]}


def test_files_that_only_the_cluster_has_are_left_to_it():
    given = {"pip": "/opt/app/requirements.txt", "conda": "/opt/app/environment.yaml"}
    assert runtime_env_of(given, "runtime_env") == given


def test_file_of_conda_is_refused_and_the_name_of_an_environment_is_not():
    with pytest.raises(RayConfigurationError, match=r"\['conda'\] is the file 'environment.yaml'.* as a mapping"):
        runtime_env_of({"conda": "environment.yaml"}, "runtime_env")
    assert runtime_env_of({"conda": "by_name"}, "runtime_env") == {"conda": "by_name"}


def test_file_that_is_neither_here_nor_named_by_its_full_path_is_told():
    with pytest.raises(RayConfigurationError, match=r"\['pip'\] names the file .*missing.txt.* No such file"):
        runtime_env_of({"pip": "missing.txt"}, "runtime_env")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pip": "['a', 'b']"}, {"pip": ["a", "b"]}),
        ({"pip": {"packages": '["a"]', "pip_check": "False", "pip_version": "23"}},
         {"pip": {"packages": ["a"], "pip_check": False, "pip_version": "23"}}),
        ({"config": {"setup_timeout_seconds": "60"}}, {"config": {"setup_timeout_seconds": 60}}),
        ({"env_vars": "{'A': '1'}"}, {"env_vars": {"A": "1"}}),
        ('{"env_vars": {"A": "0,1", "B": "007", "C": "None"}}', {"env_vars": {"A": "0,1", "B": "007", "C": "None"}}),
        ("None", {}),
    ],
)  # fmt: skip
def test_what_a_template_left_as_text_is_what_ray_wants(given, expected):
    assert runtime_env_of(given, "runtime_env") == expected
