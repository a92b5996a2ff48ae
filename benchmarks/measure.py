"""Timing of contestants in turns, and what comes of it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5


@dataclass(frozen=True)
class Result:
    """One figure next to its baseline.

    :param name: what was measured.
    :param value: the median.
    :param unit: of ``value`` and ``baseline``.
    :param baseline: the median of what it is compared with; None where it is one itself.
    :param noise: spread of the middle half of the measurements over their median.
    :param target: the least ``ratio`` to reach; None where there is none.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    noise: float = 0.0
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the baseline."""
        return None if self.baseline is None else self.value / self.baseline

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the target."""
        return None if self.ratio is None or self.target is None else self.ratio >= self.target


def seconds_in_turns(contestants: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Run all contestants once to warm up, and then in turns, and return the seconds that each run took."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if turn > 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def noise(measured: list[float]) -> float:
    """Return the spread of the middle half over the median."""
    low, _, high = statistics.quantiles(measured, n=4)
    return (high - low) / statistics.median(measured)
