"""What comes from the cluster cannot make the terminal of whoever looks at it do anything."""

from __future__ import annotations

import pytest

from airflow_ray.__main__ import main
from airflow_ray.cli.output import printable
from airflow_ray.exceptions import RayTaskFailedError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

# The title of the window, the colour by a character of eight bits, the start of the line, and text from right to left.
SENT = "a\x1b]0;title\x07 \x9b31m \r \u202e"
SHOWN = r"a\x1b]0;title\x07 \x9b31m \r \u202e"


@pytest.fixture
def hook(head):
    with RayHook("ray_driver").connect() as hook:
        yield hook


@pytest.fixture
def failed(hook):
    def fail():
        raise ValueError(SENT)

    uri = hook.submit(fail, uri=new_uri("ray_driver"))
    with pytest.raises(RayTaskFailedError):
        hook.wait(uri)
    return uri


def test_control_characters_are_shown_as_python_writes_them():
    assert printable(f"{SENT}\n\t") == f"{SHOWN}\n\t"


def controls(text):
    return [character for character in text if character in SENT and not character.isprintable()]


def test_cell_of_a_frame_is_shown(hook, capsys):
    import pandas as pd

    uri = hook.put(pd.DataFrame({"x": [SENT]}), uri=new_uri("ray_driver"))
    capsys.readouterr()
    main(["get", str(uri)])
    assert controls(capsys.readouterr().out) == []


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
def test_error_and_traceback_are_shown(failed, capsys, output):
    capsys.readouterr()
    main(["describe", str(failed), "--output", output])
    printed = capsys.readouterr().out
    assert "title" in printed
    assert controls(printed) == []


def test_error_that_ends_a_command_is_shown(failed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["get", str(failed)])
    assert controls(str(ended.value)) == []
