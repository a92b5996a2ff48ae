"""The table of faults in docs/explain/reliability.md."""

from __future__ import annotations

import json

import pytest

from tests.faults import table
from tests.faults.cases import Told

HAPPENS = "It goes on."


def noted(moment: str, seconds: float, fault: str = "Owner killed") -> str:
    told = Told(fault, moment, HAPPENS)
    return json.dumps(
        {**told._asdict(), "seconds": seconds, "test": f"tests/faults/test_it.py::test[{fault}-{moment}]"}
    )


def rows(text: str) -> list[list[str]]:
    """Return the cells of each line of a table, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.fixture
def two_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [("Owner killed", "use"), ("Owner killed", "before"), ("Head killed", "call")]
    monkeypatch.setattr(table, "CASES", {"test_it.py": [Told(*each, HAPPENS) for each in faults]})


@pytest.mark.usefixtures("two_faults")
@pytest.mark.parametrize(
    ("lines", "costs"),
    [
        ([], ["not measured", "not measured"]),
        ([noted("use", 2.04)], ["2.0 s (measured at 1 of 2)", "not measured"]),
        ([noted("use", 2.04), noted("before", 0.5), noted("call", 1.0, "Head killed")], ["0.5 to 2.0 s", "1.0 s"]),
        ([noted("use", 1.0), noted("before", 9.0), noted("use", 9.0)], ["9.0 s", "not measured"]),
        ([noted("use", 1.0, "Nobody killed")], ["not measured", "not measured"]),
    ],
    ids=["nothing", "in part", "all", "twice", "case that is gone"],
)
def test_one_line_tells_the_moments_of_a_fault_in_their_order(lines: list[str], costs: list[str]) -> None:
    when = "before the submit, while the next callable runs", "while the callable runs"
    assert rows(table.table(lines)) == [
        ["Owner killed", when[0], HAPPENS, costs[0], "`test_it.py`"],
        ["Head killed", when[1], HAPPENS, costs[1], "`test_it.py`"],
    ]


def test_table_takes_the_place_of_the_earlier_one() -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter"
    assert table.page_with(page, "new\n") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter"


def test_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="faults: begin"):
        table.page_with("nothing", "new")


def test_page_tells_each_case_that_is_tried_and_no_other() -> None:
    shown = table.PAGE.read_text().partition(table.BEGIN)[2].partition(table.END)[0]
    cost = table.HEADING.split(" | ").index("Cost")
    without_cost = [[[*row[:cost], *row[cost + 1 :]] for row in rows(text)] for text in (shown, table.table([]))]
    assert without_cost[0] == without_cost[1]


def test_no_case_is_told_twice() -> None:
    for told in table.CASES.values():
        assert len(told) == len(set(told))
