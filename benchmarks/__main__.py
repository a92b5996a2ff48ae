"""Run the benchmarks, print what came of them, and write ``benchmarks/results.json`` and its charts."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet

from benchmarks.chart import RESULTS, draw
from tools.standalone import print_table, stop_by_sigterm_as_by_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.measure import Result

HEADING = ("what", "value", "unit", "ratio", "of", "target", "met", "noise")


def main(quick: bool, chosen: list[str]) -> None:
    """Run the parts one after another.

    :param quick: small sizes and few repeats, to see that everything works; nothing is written.
    :param chosen: names of parts to run, and nothing to write; all of them if there is none.
    """
    parts = _parts(quick)
    results: list[Result] = []
    started = time.monotonic()
    for name in chosen or parts:
        part_started = time.monotonic()
        measured = list(parts[name]())
        results += measured
        print_table([HEADING, *map(_row, measured)])
        print(f"{name}: {time.monotonic() - part_started:.0f} s, {_noise(measured)}", flush=True)
        if not quick and not chosen:
            # A run that breaks off leaves what it has measured.
            RESULTS.write_text(json.dumps([_plain(each) for each in results], indent=1) + "\n")
    missed = [result for result in results if result.met is False]
    print(f"\n{len(results)} figures in {time.monotonic() - started:.0f} s; {len(missed)} targets missed")
    if missed:
        print("docs/explain/performance.md tells why.")
    if not quick and not chosen:
        draw([_plain(each) for each in results])


def _parts(quick: bool) -> dict[str, Callable[[], Iterable[Result]]]:
    """Return what each part runs; those that must not see what others leave in this process come first."""
    from benchmarks import (
        calls,
        checkpoints,
        handover,
        mapped_tasks,
        operator_cost,
        page,
        parsing,
        scale,
        transfer,
        tuning,
        waiting_tasks,
        waits,
        whole_dag,
    )

    if quick:
        return {
            "parsing": lambda: parsing.run(1),
            "waits": lambda: waits.run((10,), 1.0),
            "operator": lambda: operator_cost.run(1, tasks=1, with_others=False),
            "calls": lambda: calls.run(50, 16, 1),
            "waiting tasks": lambda: waiting_tasks.run(5, 1, 0.5),
            "hand-over": lambda: handover.run((1.0,), (), 1),
            "hand-over of kinds": lambda: handover.run_kinds(1, 1, ("pandas",)),
            "transfer": lambda: transfer.run((16,), 1),
            "checkpoints": lambda: checkpoints.run((8,), 8, 1),
            "tuning": lambda: tuning.run(1, 1),
            "scale": lambda: scale.run((2, 4), 8, 0, 1),
            "page": lambda: page.run(5, 1),
        }
    return {
        "parsing": lambda: parsing.run(5),
        "waits": lambda: waits.run((100, 1000), 5.0),
        "operator": lambda: operator_cost.run(),
        "calls": lambda: calls.run(500, 200),
        "waiting tasks": lambda: waiting_tasks.run(200, 5),
        "hand-over": lambda: handover.run((6.4, 64, 640), (149,)),
        "hand-over of kinds": lambda: handover.run_kinds(16, 5),
        "transfer": lambda: transfer.run((64, 256, 640)),
        "checkpoints": lambda: checkpoints.run((64, 640), 128),
        "tuning": lambda: tuning.run(2, 3),
        "scale": lambda: scale.run((10, 1000), 10_000, 100),
        "whole DAG": lambda: whole_dag.run({1: 1.0, 640: 1 / 3}, 2),
        "page": lambda: page.run(500, 3),
        "mapped tasks": lambda: mapped_tasks.run(300),
    }


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        _number(result.value),
        result.unit,
        "-" if result.ratio is None else f"{result.ratio:.3g}",
        "-" if result.baseline is None else _number(result.baseline),
        result.target_text or "-",
        {None: "-", True: "yes", False: "no"}[result.met],
        "one run" if result.noise is None else f"{result.noise:.0%}",
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _noise(results: list[Result]) -> str:
    noises = [result.noise for result in results if result.noise is not None]
    if not noises:
        return "each figure of one run"
    return f"noise {statistics.median(noises):.0%} in the middle, {max(noises):.0%} at most"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "value": result.value,
        "unit": result.unit,
        "baseline": result.baseline,
        "ratio": result.ratio,
        "target": result.target_text,
        "met": result.met,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("parts", nargs="*", help="run these alone, and write nothing")
    arguments = parser.parse_args()
    stop_by_sigterm_as_by_ctrl_c()
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        # An installed package has bytecode; this checkout gets it with the first process.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
        os.environ["AIRFLOW__CORE__FERNET_KEY"] = Fernet.generate_key().decode()
        main(arguments.quick, arguments.parts)
