"""Run the benchmarks and write ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from tools.standalone import print_table

if TYPE_CHECKING:
    from benchmarks.measure import Result

RESULTS = Path(__file__).parent / "results.json"


def main(quick: bool) -> None:
    """Run everything, print a table and write the results.

    :param quick: small sizes and few repeats, to see that everything works.
    """
    from benchmarks import checkpoints, handover, transfer, tuning, waits

    results = list(handover.run(*((4, 2) if quick else (64, 5))))
    results += transfer.run(*(((32,), 2) if quick else ((64, 256, 640),)))
    results += list(checkpoints.run(*(((16,), 2) if quick else ((64, 640),))))
    results += waits.run(*((100, 5.0) if quick else (1000, 60.0)))
    results += tuning.run(*((2, 2) if quick else (16, 5)))
    print_table([("what", "value", "unit", "ratio", "of", "target", "met", "noise"), *map(_row, results)])
    if not quick:
        RESULTS.write_text(json.dumps([_plain(each) for each in results], indent=1) + "\n")


def _row(result: Result) -> tuple[str, ...]:
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    baseline = "-" if result.baseline is None else f"{result.baseline:.0f}"
    target = "-" if result.target is None else f"{result.target:g}"
    met = {None: "-", True: "yes", False: "no"}[result.met]
    return (
        result.name,
        f"{result.value:.{0 if result.value >= 10 else 1}f}",
        result.unit,
        ratio,
        baseline,
        target,
        met,
        f"{result.noise:.0%}",
    )


def _plain(result: Result) -> dict[str, object]:
    return {**asdict(result), "ratio": result.ratio, "met": result.met}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
        os.environ["AIRFLOW__CORE__FERNET_KEY"] = Fernet.generate_key().decode()
        main(arguments.quick)
