"""What the log of a search shows: a line from time to time, and a table at the end."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from numbers import Real
from typing import Any

PROGRESS_SECONDS = 10.0
TABLE_ROWS = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STATES = ("RUNNING", "PENDING", "PAUSED", "TERMINATED", "ERROR")


class Progress:
    """Prints how a search goes, at most every ten seconds.

    :param metric: what is optimised.
    :param mode: ``min`` or ``max``.
    """

    def __init__(self, metric: str, mode: str) -> None:
        self._metric, self._mode = metric, mode
        self._errors = 0
        self.begin(None)

    def begin(self, total: int | None) -> None:
        """Start the clock.

        :param total: number of trials, if it is known.
        """
        self._total = total
        self._started = self._last_line_at = time.monotonic()
        self._ended_before: int | None = None

    def tell(self, trials: list[Any]) -> None:
        """Print the state of the trials, unless that was done a moment ago."""
        now = time.monotonic()
        states = Counter(trial.status for trial in trials)
        ended = states["TERMINATED"] + states["ERROR"]
        if self._ended_before is None:
            self._ended_before = ended
        if now - self._last_line_at < PROGRESS_SECONDS:
            return
        self._last_line_at = now
        counts = ", ".join(f"{states[state]} {state.lower()}" for state in _STATES if states[state])
        parts = [f"Trials: {counts} of {self._total or len(trials)}", self._best(trials)]
        parts += [f"{now - self._started:.0f} s", self._rest(ended - self._ended_before, ended, now - self._started)]
        print("; ".join(filter(None, parts)), flush=True)

    def tell_error(self, trial: Any) -> None:
        """Print the error of a trial: of the first one whole, of others the last line."""
        self._errors += 1
        text = error_text(trial.get_error())
        print(f"Trial {trial.trial_id} failed: {text if self._errors == 1 else text.splitlines()[-1]}", flush=True)

    def _best(self, trials: list[Any]) -> str:
        from ray.tune.utils import flatten_dict

        reported = [(flatten_dict(trial.last_result or {}).get(self._metric), trial) for trial in trials]
        known = [(value, trial) for value, trial in reported if isinstance(value, Real) and math.isfinite(value)]
        if not known:
            return ""
        value, best = (min if self._mode == "min" else max)(known, key=lambda pair: pair[0])
        return f"best {self._metric}={value:.6g} by {best.trial_id} {best.evaluated_params}"

    def _rest(self, ended_now: int, ended: int, seconds: float) -> str:
        if not ended_now or not self._total:
            return ""
        return f"about {seconds / ended_now * max(0, self._total - ended):.0f} s left"


def error_text(error: BaseException | None) -> str:
    """Return the traceback that a trial's error carries, or its text, without colours."""
    return _COLOUR.sub("", str(error)).strip() or repr(error)


def print_table(trials: Any, metric: str, mode: str) -> None:
    """Print the best trials.

    :param trials: DataFrame with a row for each.
    """
    shown = trials.sort_values(metric, ascending=mode == "min") if metric in trials else trials
    varied = [name for name in trials.filter(like="config/").columns if trials[name].astype(str).nunique() > 1]
    columns = ["trial_id", metric, "training_iteration", "time_total_s", *varied]
    if trials["trial_error"].notna().any():
        columns.append("trial_error")
    shown = shown[[name for name in columns if name in trials]].head(TABLE_ROWS)
    print(shown.to_string(index=False, max_colwidth=40))
    if len(trials) > TABLE_ROWS:
        print(f"and {len(trials) - TABLE_ROWS} more")
