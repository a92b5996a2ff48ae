"""Writes into docs/reliability.md what the tests of faults have measured.

Run as ``python -m tools.fault_table FILE``: each line of the file is a JSON object that one test has noted.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
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


class Kind(NamedTuple):
    """What makes one line of the table."""

    fault: str
    happens: str
    test: str


def table(lines: list[str]) -> str:
    """Return the table in Markdown.

    :param lines: what the tests have noted; a later line of a test takes the place of an earlier one.
    """
    rows = {row["test"]: row for row in map(json.loads, lines)}
    kinds: dict[Kind, dict[str, float]] = {}
    for row in rows.values():
        test = Path(row["test"].partition("::")[0]).name
        kinds.setdefault(Kind(row["fault"], row["happens"], test), {})[row["moment"]] = row["seconds"]
    return HEADING + "".join(_line(kind, seconds) for kind, seconds in kinds.items())


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
    """Write the table of what a file has."""
    lines = Path(path).read_text().splitlines()
    day = datetime.now(timezone.utc).date().isoformat()
    measured = f"\nMeasured on {day} with Python {platform.python_version()}: {len(lines)} cases.\n"
    PAGE.write_text(page_with(PAGE.read_text(), table(lines) + measured))
    print(table(lines))


def _line(kind: Kind, seconds: dict[str, float]) -> str:
    order = [*MOMENTS]
    moments = sorted(seconds, key=lambda moment: order.index(moment) if moment in MOMENTS else len(order))
    when = ", ".join(MOMENTS.get(moment, moment) for moment in moments)
    least, most = min(seconds.values()), max(seconds.values())
    cost = f"{most:.1f} s" if round(least, 1) == round(most, 1) else f"{least:.1f} to {most:.1f} s"
    return f"| {kind.fault} | {when} | {kind.happens} | {cost} | `{kind.test}` |\n"


if __name__ == "__main__":
    main(sys.argv[1])
