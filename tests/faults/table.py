"""Writes into docs/explain/reliability.md what the tests of faults have measured.

Run as ``python -m tests.faults.table FILE``: each line of the file is a JSON object that one test has noted. It prints
the table as well.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.faults import cases, test_airflow, test_killed, test_links, test_room, test_stopped
from tests.faults.cases import Told

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEADING = "| Fault | When | What happens | Cost | Test |\n|---|---|---|---|---|\n"
MOMENTS = {
    "before": "before the submit",
    "submit": "during the submit",
    "call": "while the callable runs",
    "checkpoint": "while the checkpoint is written",
    "result": "before the task has the result",
    "done": "between the two tasks",
    "use": "while the next callable runs",
}
#: What each file of tests does.
CASES: dict[str, list[Told]] = {
    Path(str(test_killed.__file__)).name: [each.told for each in (*cases.KILLED, *cases.OTHER_WAYS, *cases.OF_CLIENT)],
    Path(str(test_stopped.__file__)).name: [each.told for each in (*cases.BRIEF, *cases.STOPPED)],
    Path(str(test_airflow.__file__)).name: [each.told for each in test_airflow.CASES],
    Path(str(test_links.__file__)).name: [each.told for each in test_links.CASES],
    Path(str(test_room.__file__)).name: test_room.CASES,
}


class Kind(NamedTuple):
    """What makes one line of the table."""

    fault: str
    happens: str
    test: str


def measured(lines: Iterable[str]) -> dict[Kind, dict[str, float]]:
    """Return the seconds of each moment that tests have noted; of one that has run twice, the last."""
    found: dict[Kind, dict[str, float]] = {}
    for row in map(json.loads, lines):
        test = Path(row["test"].partition("::")[0]).name
        found.setdefault(Kind(row["fault"], row["happens"], test), {})[row["moment"]] = row["seconds"]
    return found


def table(lines: Iterable[str]) -> str:
    """Return the table of all cases in Markdown, with what was measured of them.

    :param lines: what the tests have noted.
    """
    seconds = measured(lines)
    moments: dict[Kind, list[str]] = {}
    for test, told in CASES.items():
        for each in told:
            moments.setdefault(Kind(each.fault, each.happens, test), []).append(each.moment)
    return HEADING + "".join(_line(kind, its, seconds.get(kind, {})) for kind, its in moments.items())


def page_with(text: str, made: str) -> str:
    """Return a page with a table in place of the one that it has.

    :raises ValueError: the page does not say where.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"There is no {BEGIN} with an {END} after it")
    return f"{before}{BEGIN}\n{made}{END}{after}"


def main(path: str) -> None:
    """Write the table of what a file has, and print it; where that is nothing, the page stays."""
    lines = Path(path).read_text().splitlines()
    made = table(lines) + _measured_on(sum(map(len, measured(lines).values())))
    if lines:
        PAGE.write_text(page_with(PAGE.read_text(), made))
    print(made)


def _measured_on(count: int) -> str:
    day = datetime.now(timezone.utc).date().isoformat()
    releases = f"Python {platform.python_version()}, Ray {version('ray')} and Airflow {version('apache-airflow')}"
    of = sum(map(len, CASES.values()))
    return f"\n{count} of {of} cases were measured on {day} on {os.cpu_count()} processors with {releases}.\n"


def _line(kind: Kind, moments: list[str], seconds: dict[str, float]) -> str:
    told = ", ".join(MOMENTS[moment] for moment in sorted(moments, key=[*MOMENTS].index))
    when = told if len(moments) < len(MOMENTS) else "each of the seven"
    return f"| {kind.fault} | {when} | {kind.happens} | {_cost(moments, seconds)} | `{kind.test}` |\n"


def _cost(moments: list[str], seconds: dict[str, float]) -> str:
    known = [round(seconds[moment], 1) for moment in moments if moment in seconds]
    if not known:
        return "not measured"
    cost = f"{max(known):.1f} s" if min(known) == max(known) else f"{min(known):.1f} to {max(known):.1f} s"
    return cost if len(known) == len(moments) else f"{cost} (measured at {len(known)} of {len(moments)})"


if __name__ == "__main__":
    main(sys.argv[1])
