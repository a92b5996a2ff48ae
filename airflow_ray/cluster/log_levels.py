"""The level of each line of a log, as a text of one letter for each: it is sliced as the lines are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# What was not logged at all, but printed, is of no other level.
PLAIN = "I"
WARNING = "W"
ERROR = "E"
CRITICAL = "C"


def letter_of(level: int) -> str:
    """Return the letter of a level of ``logging``."""
    # Whoever lets DEBUG through on the cluster wants to see it, which Airflow's own level would prevent.
    if level < logging.WARNING:
        return PLAIN
    if level < logging.ERROR:
        return WARNING
    return ERROR if level < logging.CRITICAL else CRITICAL


def levels_of(lines: Sequence[str], levels: str) -> str:
    """Return the letter of each line, where those of the last ones may be missing."""
    return levels.ljust(len(lines), PLAIN)
