"""What the log of a task shows of its work: each line at its level, and a short line of the result."""

from __future__ import annotations

import logging

import pytest

from airflow_ray.client.progress import Progress
from airflow_ray.operators.log_lines import show_progress, show_result

RECORD = {"node": "10.0.0.1", "seconds": 1.5}
URI = "ray-object://ray_default/dag/run/task/-1/return_value"


@pytest.fixture
def shown(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [(each.levelname, each.getMessage()) for each in caplog.records]


def test_each_line_of_output_has_its_level(shown):
    lines = ["printed", "WARNING a: b", "ERROR a: 100 %s", "CRITICAL a: b"]
    show_progress(logging.getLogger("task"), [Progress("RUNNING", lines, levels="IWEC")], fetch_logs=True)
    assert shown() == list(zip(["INFO", "WARNING", "ERROR", "CRITICAL"], lines, strict=True))


def test_lines_without_a_level_are_shown_too(shown):
    show_progress(logging.getLogger("task"), [Progress("RUNNING", ["one", "two"], levels="E")], fetch_logs=True)
    assert shown() == [("ERROR", "one"), ("INFO", "two")]


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            {"type": "pandas.core.frame.DataFrame", "shape": [1000, 3], "bytes": 24132},
            "Result: pandas.core.frame.DataFrame of shape (1000, 3), 24,132 bytes, 1.500 s",
        ),
        ({"type": "builtins.list", "length": 2, "bytes": 20}, "Result: builtins.list of length 2, 20 bytes, 1.500 s"),
    ],
)
def test_result_is_one_short_line_and_its_uri_another(shown, output, line):
    show_result(logging.getLogger("task"), output, RECORD, URI)
    assert shown() == [("INFO", line), ("INFO", URI)]


def test_result_that_is_returned_as_a_value_has_no_uri(shown):
    show_result(logging.getLogger("task"), {"type": "builtins.int"}, RECORD, None)
    assert shown() == [("INFO", "Result: builtins.int, as JSON, 1.500 s")]
