"""Dates that Airflow hands to tasks, of pendulum and with time zones of pydantic's, as those of the standard library.

The cluster need not have either.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable

PICKLE_PROTOCOL = 5


def parts_of_dates() -> dict[type, Callable[[Any], Any]]:
    """Return for each kind of them, as far as this process has any, what takes one to pieces for Ray's pickler."""
    if "pendulum" not in sys.modules:
        return {}
    import pendulum
    from pendulum.tz.timezone import FixedTimezone, Timezone
    from pydantic_core import TzInfo

    plain: dict[type, Callable[[Any], Any]] = {
        pendulum.DateTime: _datetime,
        pendulum.Date: lambda value: date(value.year, value.month, value.day),
        pendulum.Time: _time,
        pendulum.Duration: lambda value: value.as_timedelta(),
        pendulum.Interval: lambda value: value.as_timedelta(),
        Timezone: lambda value: _timezone(value, None),
        FixedTimezone: lambda value: _timezone(value, None),
        TzInfo: lambda value: timezone(value.utcoffset(None)),
    }
    return {kind: _parts_after(function) for kind, function in plain.items()}


def _parts_after(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: function(value).__reduce_ex__(PICKLE_PROTOCOL)


def _datetime(value: datetime) -> datetime:
    zone = _timezone(value.tzinfo, value.utcoffset())
    plain = datetime(*value.timetuple()[:6], value.microsecond, zone)
    # Pendulum sets it also where there is only one such hour.
    return plain if plain.utcoffset() == value.utcoffset() else plain.replace(fold=value.fold)


def _time(value: time) -> time:
    zone = _timezone(value.tzinfo, value.utcoffset())
    return time(value.hour, value.minute, value.second, value.microsecond, zone, fold=value.fold)


def _timezone(zone: tzinfo | None, offset: timedelta | None) -> tzinfo | None:
    """Return a time zone of the standard library.

    :param offset: what a zone without a name says at the time in question.
    """
    if zone is None or not type(zone).__module__.startswith("pendulum."):
        return zone
    if isinstance(zone, ZoneInfo):
        if zone.key is not None:
            return timezone.utc if zone.key == "UTC" else ZoneInfo(zone.key)
    else:
        offset = zone.utcoffset(None)
    if offset is None:
        raise TypeError("a time zone that was read from a file has no name by which the cluster could find it")
    return timezone(offset)
