"""What a callable gets as its arguments, whatever has become of them in templates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.operators.python import RayPythonOperator


def of_frames(*frames, ds):
    return ds


def of_frames_and_instance(*frames, ti):
    return ti


def call_of(op_args=None, op_kwargs=None, function=of_frames):
    operator = RayPythonOperator(task_id="task", python_callable=function)
    operator.op_args, operator.op_kwargs = op_args, op_kwargs
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="task", map_index=-1)
    return operator._remote_call({"ds": "2026-01-01", "ti": ti})


def test_variable_that_is_named_behind_any_number_of_arguments_is_given():
    assert call_of([1, 2]).kwargs == {"ds": "2026-01-01"}


def test_live_object_that_is_named_there_is_refused():
    with pytest.raises(RayConfigurationError, match="'ti', a live object"):
        RayPythonOperator(task_id="task", python_callable=of_frames_and_instance, op_args=[1, 2])


@pytest.mark.parametrize("nothing", [None, "", "None", "null"])
def test_template_that_says_nothing_gives_no_arguments(nothing):
    call = call_of(nothing, nothing)
    assert (list(call.args), call.kwargs) == ([], {"ds": "2026-01-01"})


def test_text_that_a_template_leaves_is_read():
    call = call_of("[1, 2]", "{'a': 3}")
    assert (list(call.args), call.kwargs) == ([1, 2], {"ds": "2026-01-01", "a": 3})


@pytest.mark.parametrize("wrong", ["some text", 1, {"a": 1}, b"bytes"])
def test_what_is_no_list_is_told(wrong):
    with pytest.raises(RayConfigurationError, match="op_args must be a list of arguments, got a "):
        call_of(wrong)


@pytest.mark.parametrize("wrong", ["some text", 1, ["a"]])
def test_what_is_no_mapping_is_told(wrong):
    with pytest.raises(RayConfigurationError, match="op_kwargs must be a mapping"):
        call_of(None, wrong)
