"""The results of a run as charts: ``python -m benchmarks.chart`` draws those of ``benchmarks/results.json`` again."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results.json"
FOLDER = Path(__file__).parent / "results"
OURS, OTHERS = "#1f77b4", "#b0b0b0"
HAND_OVER = re.compile(
    r"hand-over of (?P<what>[\d.]+ MB of floats|a mixed table of [\d.]+ MB), (?P<way>.*?)(, one run)?$"
)
GROWTH = re.compile(r"scale: (?P<before>.*?)(?P<number>\d+) (?P<after>.*)$")
DOTS_PER_INCH = 110
PANELS_IN_A_ROW = 4


def draw(results: Sequence[dict[str, Any]], folder: Path = FOLDER) -> list[Path]:
    """Draw the charts for which there are results, and return their files.

    :param results: as ``results.json`` has them.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(exist_ok=True)
    drawn = [_hand_over(results, folder), _targets(results, folder), _growth(results, folder)]
    return [path for path in drawn if path is not None]


def _hand_over(results: Sequence[dict[str, Any]], folder: Path) -> Path | None:
    """Draw the time of each way to hand a table over, on one scale."""
    import matplotlib.pyplot as plt

    tables: dict[str, dict[str, float]] = {}
    for result in results:
        found = HAND_OVER.match(result["name"])
        if found and result["baseline"] is None:
            tables.setdefault(found["what"], {})[found["way"]] = result["value"]
    if not tables:
        return None
    figure, axes = plt.subplots(1, len(tables), figsize=(4.2 * len(tables), 3.4), sharey=True, squeeze=False)
    for axis, (what, ways) in zip(axes[0], tables.items(), strict=True):
        names = list(reversed(ways))
        bars = axis.barh(names, [ways[name] for name in names], color=[_colour(name) for name in names])
        axis.bar_label(bars, labels=[_milliseconds(ways[name]) for name in names], padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(right=20 * max(ways.values()))
        axis.set_title(what, fontsize=10)
        axis.set_xlabel("milliseconds, logarithmic", fontsize=8)
    figure.suptitle("From the return of one task to the first column in the next")
    return saved(figure, folder / "handover.png")


def _targets(results: Sequence[dict[str, Any]], folder: Path) -> Path | None:
    """Draw how far each figure is from its target; right of the line it is met."""
    import matplotlib.pyplot as plt

    margins = [(result["name"], _margin(result), result["met"]) for result in reversed(results) if result["target"]]
    margins = [each for each in margins if each[1] > 0]
    if not margins:
        return None
    figure, axis = plt.subplots(figsize=(11, 0.27 * len(margins) + 1.2))
    names, values, met = zip(*margins, strict=True)
    colours = ["#2ca02c" if each else "#d62728" for each in met]
    bars = axis.barh(range(len(names)), [value - 1 for value in values], left=1, color=colours)
    axis.bar_label(bars, labels=[f"{value:.2g} x" for value in values], padding=3, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    # Room for the texts at the ends of the bars.
    axis.set_xlim(min(values) / 1.5, max(values) * 1.5)
    axis.margins(y=0.01)
    axis.set_title("How many times better than the target")
    return saved(figure, folder / "targets.png")


def _growth(results: Sequence[dict[str, Any]], folder: Path) -> Path | None:
    """Draw the figures that were taken at several scales."""
    import matplotlib.pyplot as plt

    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for result in results:
        if found := GROWTH.match(result["name"]):
            name = f"{found['before']}… {found['after']}"
            curves.setdefault((name, result["unit"]), []).append((int(found["number"]), result["value"]))
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    rows = math.ceil(len(curves) / PANELS_IN_A_ROW)
    figure, axes = plt.subplots(rows, PANELS_IN_A_ROW, figsize=(3.6 * PANELS_IN_A_ROW, 2.8 * rows), squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for axis, ((name, unit), points) in zip(axes.flat, curves.items(), strict=False):
        axis.plot(*zip(*points, strict=True), marker="o", color=OURS)
        axis.set_xscale("log")
        axis.set_ylim(bottom=0, top=1.2 * max(value for _, value in points))
        axis.set_title(name, fontsize=9)
        axis.set_ylabel(unit, fontsize=8)
    figure.suptitle("What grows with the number of tasks")
    return saved(figure, folder / "growth.png")


def _margin(result: dict[str, Any]) -> float:
    """Return how many times better than its target a figure is; 0 for one that cannot be told so."""
    kind, comparison, bound = result["target"].split()
    figure, limit = float(result[kind]), float(bound)
    if not figure or not limit:
        return 0.0
    return limit / figure if comparison == "<=" else figure / limit


def _colour(name: str) -> str:
    return OURS if name.startswith("ours") else OTHERS


def _milliseconds(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def saved(figure: Any, path: Path) -> Path:
    """Write a figure into a file, and return that."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
    return path


if __name__ == "__main__":
    for path in draw(json.loads(RESULTS.read_text())):
        print(path)
