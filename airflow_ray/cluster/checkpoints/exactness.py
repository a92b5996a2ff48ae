"""When a value comes back exactly as it was stored, and the error for one that would not."""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from typing import Any


class NotExactError(Exception):
    """Arrow cannot hold the value in a way that gives it back equal; the text says what of it."""


def identical(one: Any, other: Any) -> bool:
    """Whether two values are equal with all they hold, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, dict):
        return identical(list(one), list(other)) and identical(list(one.values()), list(other.values()))
    if isinstance(one, float) and one != one:
        return bool(other != other)
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    # Two that tell the same moment at two places are equal, and so are the two of an hour that a clock repeats.
    if isinstance(one, (datetime, time)):
        return repr(one) == repr(other)
    return bool(one == other)
