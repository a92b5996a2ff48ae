"""Timing of contestants in turns, and what comes of it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5
# What takes longer is measured once: nobody waits for the median of five.
SLOW_SECONDS = 2.0


@dataclass(frozen=True)
class Target:
    """What a figure is to reach.

    :param bound: of the ratio where there is a baseline, else of the value.
    :param at_most: whether it is the most, or else the least.
    """

    bound: float
    at_most: bool

    def met_by(self, figure: float) -> bool:
        """Return whether ``figure`` reaches it."""
        return figure <= self.bound if self.at_most else figure >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def at_most(bound: float) -> Target:
    """Return the target of a figure that is to be small."""
    return Target(bound, at_most=True)


def at_least(bound: float) -> Target:
    """Return the target of a figure that is to be large."""
    return Target(bound, at_most=False)


@dataclass(frozen=True)
class Result:
    """One figure next to its baseline.

    :param name: what was measured.
    :param value: the median.
    :param unit: of ``value`` and ``baseline``.
    :param baseline: the median of what it is compared with; None where it is one itself.
    :param noise: spread of the middle half of the measurements over their median; None where there is only one.
    :param target: what to reach; None where there is nothing.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    noise: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the baseline."""
        return None if self.baseline is None else self.value / self.baseline

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        return self.target.met_by(self.value if self.ratio is None else self.ratio)

    @property
    def target_text(self) -> str | None:
        """The target in words, with what it is about."""
        if self.target is None:
            return None
        return f"{'value' if self.baseline is None else 'ratio'} {self.target}"


def in_turns(
    contestants: dict[str, Callable[[], float]],
    repeats: int = REPEATS,
    warm_up: bool = True,
    slow_seconds: float = SLOW_SECONDS,
) -> dict[str, list[float]]:
    """Run contestants in turns, and return the seconds that each run says it took.

    :param warm_up: let each run once before, which does not count.
    :param slow_seconds: one whose first run that counts takes more is not run again.
    """
    if warm_up:
        for run in contestants.values():
            run()
    seconds = {name: [run()] for name, run in contestants.items()}
    quick = {name: run for name, run in contestants.items() if seconds[name][0] <= slow_seconds}
    for _ in range(repeats - 1):
        for name, run in quick.items():
            seconds[name].append(run())
    return seconds


def all_timed(contestants: dict[str, Callable[[], object]]) -> dict[str, Callable[[], float]]:
    """Return contestants for :func:`in_turns` that say how long these take."""
    return {name: timed(run) for name, run in contestants.items()}


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """Return a function that runs another and returns the seconds it took."""

    def run_and_time() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return run_and_time


def noise(measured: list[float]) -> float | None:
    """Return the spread of the middle half over the median, or None of a single one."""
    if len(measured) < 2:
        return None
    low, _, high = statistics.quantiles(measured, n=4)
    return (high - low) / statistics.median(measured)
