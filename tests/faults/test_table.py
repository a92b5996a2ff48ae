"""The table of faults in docs/reliability.md."""

from __future__ import annotations

import json

import pytest

from tools import fault_table


def noted(moment: str, seconds: float, fault: str = "Owner killed") -> str:
    row = {"fault": fault, "moment": moment, "happens": "It goes on.", "seconds": seconds}
    return json.dumps({**row, "test": f"tests/faults/test_killed.py::test[{fault}-{moment}]"})


def test_one_line_tells_the_moments_of_a_fault_in_their_order() -> None:
    made = fault_table.table([noted("use", 2.04), noted("before", 0.5), noted("call", 1.0, fault="Head killed")])
    when = "before the submit, while the next callable runs"
    assert made.splitlines()[2:] == [
        f"| Owner killed | {when} | It goes on. | 0.5 to 2.0 s | `test_killed.py` |",
        "| Head killed | while the callable runs | It goes on. | 1.0 s | `test_killed.py` |",
    ]


def test_last_result_of_a_test_counts() -> None:
    assert "9.0 s" in fault_table.table([noted("use", 1.0), noted("use", 9.0)])


def test_table_takes_the_place_of_the_earlier_one() -> None:
    page = f"before\n{fault_table.BEGIN}\nold\n{fault_table.END}\nafter"
    assert fault_table.page_with(page, "new\n") == f"before\n{fault_table.BEGIN}\nnew\n{fault_table.END}\nafter"


def test_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="faults: begin"):
        fault_table.page_with("nothing", "new")


def test_page_has_a_place_for_the_table() -> None:
    assert fault_table.page_with(fault_table.PAGE.read_text(), "")
