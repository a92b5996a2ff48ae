"""Time zones of pandas' columns as plain data."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

from airflow_ray.cluster.checkpoints.exactness import NotExactError


def zone_spec(tz: Any) -> list[Any]:
    """Return library and name of a time zone, which pandas compares as well as the zone itself.

    :raises NotExactError: the name does not give that zone back.
    """
    library = type(tz).__module__.partition(".")[0]
    name: Any = None
    if isinstance(tz, timezone):
        library, name = "datetime", tz.utcoffset(None).total_seconds()
    elif library == "zoneinfo":
        name = tz.key
    elif library == "pytz":
        name = tz.zone or tz._minutes
    spec = [library, name]
    if name is None or not _equal_zones(zone_of(spec), tz):
        raise NotExactError(f"the time zone {tz!r}")
    return spec


def _equal_zones(one: Any, other: Any) -> bool:
    return bool(one == other) and str(one) == str(other)


def zone_of(spec: list[Any]) -> Any:
    """Return the time zone that :func:`zone_spec` describes."""
    library, name = spec
    if library == "datetime":
        return timezone.utc if name == 0 else timezone(timedelta(seconds=name))
    if library == "zoneinfo":
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    import pytz

    return pytz.FixedOffset(name) if isinstance(name, int) else pytz.timezone(name)
