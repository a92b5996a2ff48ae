"""What triggers need besides what they wait for: time, the settings of a connection, and the errors they tell."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_ray import exceptions
from airflow_ray._compat import BaseHook, conf
from airflow_ray.exceptions import AirflowRayError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ray.client.connection.settings import RaySettings

# What Airflow's scheduler takes for a turn at least, as far as one has to reckon with.
TURN_SECONDS = 5.0
MAX_SETTLE_SECONDS = 120.0


def seconds_to_settle(start_seconds: float = 0.0) -> float:
    """Return for how long a trigger is to hold its event, so that Airflow's scheduler knows of the deferral by then.

    The scheduler fails a task that is queued again before it has been told that the process which deferred it has
    ended. Airflow's supervisor of that process sees the end up to ``[workers] min_heartbeat_interval`` seconds late,
    one time in some, and the scheduler hears of it in its next turn. How long that takes nobody tells; but where much
    is to be done, the process took long to start as well.

    :param start_seconds: how long the start of that process has taken.
    """
    report: float = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
    return float(min(MAX_SETTLE_SECONDS, report + max(TURN_SECONDS, 2 * start_seconds)))


def seconds_of_start(context: Context) -> float:
    """Return how long the start of the task's process has taken, at the beginning of what the task does."""
    return (datetime.now(timezone.utc) - context["ti"].start_date).total_seconds()


def seconds_until(deadline: float | None) -> float | None:
    """Return the seconds that are left, or None without a deadline."""
    return None if deadline is None else max(0.0, deadline - time.time())


async def settings_of_id(conn_id: str, dag_id: str | None = None, run_id: str | None = None) -> RaySettings:
    """Return what a connection says of the cluster of a DAG run, of a name that Airflow is asked for.

    :raises RayClusterNotNamedError: it leads to a cluster for each DAG, or for each run, and none was named.
    """
    from airflow_ray.client.connection.clusters import settings_at
    from airflow_ray.client.connection.settings import settings_of

    # Not in the event loop: it reads the files of certificates.
    settings = await sync_to_async(settings_of)(await BaseHook.aget_connection(conn_id))
    return settings_at(settings, dag_id, run_id)


def error_of(event: dict[str, Any]) -> AirflowRayError:
    """Return the exception that an event of status ``error`` tells."""
    told, message = event.get("type"), str(event.get("message", "The trigger has not told what went wrong"))
    named = getattr(exceptions, told, None) if isinstance(told, str) else None
    # An event lies in the database: what it names is not called unless it is an exception of this package, and one
    # that is made of a text.
    if isinstance(named, type) and issubclass(named, AirflowRayError) and named is not exceptions.RayTaskFailedError:
        return named(message)
    return AirflowRayError(message)
