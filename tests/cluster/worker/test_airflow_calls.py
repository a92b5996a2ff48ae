"""The warning where a callable asks for what only a task of Airflow knows, on a worker that has Airflow."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, since this one is an Airflow worker, and has imported all of that.
PROGRAM = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stdout)
from airflow_ray.cluster.worker.airflow_calls import warn_of_airflow_calls
{before}
with warn_of_airflow_calls():
    try:
        {call}
    except Exception as error:
        print(type(error).__name__)
print("after")
from airflow.sdk import Variable, get_current_context
Variable.get("later", None)
"""


def output_of(call, before=""):
    """Return the warnings, and what the callable and this program print last."""
    command = [sys.executable, "-c", PROGRAM.format(call=call, before=before)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    # Airflow has a form of its own for what is logged, and says more.
    lines = (shown.stdout + shown.stderr).splitlines()
    return [line for line in lines if "The callable" in line], shown.stdout.splitlines()[-2:]


IMPORTED = "from airflow.sdk import BaseHook, Connection, Variable, get_current_context"


@pytest.mark.parametrize("before", ["", "import airflow.sdk; airflow.sdk.Variable, airflow.sdk.BaseHook"])
def test_each_call_is_warned_of_once_while_the_callable_runs(before):
    call = f"{IMPORTED}; Variable.get('a', None); Variable.get(key='a', default=None); BaseHook.get_connection('c')"
    told, (error, after) = output_of(call, before)
    assert [line.partition("The callable calls ")[2].partition(". ")[0] for line in told] == [
        "Variable.get('a')",
        "BaseHook.get_connection('c')",
    ]
    assert "{{ var.value.name }}" in told[0]
    assert (error, after) == ("AirflowNotFoundException", "after")


def test_context_is_warned_of():
    told, (error, _) = output_of(f"{IMPORTED}; get_current_context()")
    assert ["get_current_context()" in line for line in told] == [True]
    assert error == "RuntimeError"


def test_what_the_environment_answers_is_not_warned_of(monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_A", "1")
    monkeypatch.setenv("AIRFLOW_CONN_C", "http://host")
    call = f"{IMPORTED}; print(Variable.get('a'), BaseHook.get_connection('c').host)"
    assert output_of(call) == ([], ["1 host", "after"])
