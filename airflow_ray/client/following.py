"""Waits for work, from one question for news to the next."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.metrics import tell_totals
from airflow_ray.client.progress import Progress
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import RayConnectionError, RayWaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from airflow_ray.client.checkpoints import Targets
    from airflow_ray.client.connection.link import Link
    from airflow_ray.object_uri import ObjectURI

POLL_SECONDS = 10.0
# For an answer to come back, over the time that the cluster was told to wait.
ANSWER_SECONDS = 2.0


def follow(
    link: Link,
    targets: Targets,
    uri: ObjectURI,
    poll_interval: float = POLL_SECONDS,
    offset: int | None = None,
    seconds_left: Callable[[], float] = lambda: math.inf,
) -> Generator[Progress, None, None]:
    """Yield news of the work for ``uri`` as it comes, last with its final state.

    A connection that breaks meanwhile is made again.

    :param link: to the cluster.
    :param targets: whose credentials are renewed meanwhile.
    :param poll_interval: seconds until it yields without news; news comes at once.
    :param offset: number of the log line to begin with; None begins where an earlier follower stopped.
    :param seconds_left: returns for how long news, answers and connections may be waited for.
    :raises RayConnectionError: the connection broke, and could not be made again within ``connect_timeout``.
    :raises TimeoutError: the cluster did not answer in the seconds that were left.
    """
    broken_until = None
    with link.connect(seconds_left()):
        while True:
            try:
                interval = max(0.0, min(poll_interval, seconds_left()))
                answer = link.call_within(seconds_left() + ANSWER_SECONDS, "poll", uri.record_id, offset, interval)
            except RayConnectionError as error:
                broken_until = broken_until or time.monotonic() + link.settings.connect_timeout
                # Each new connection may break at once too.
                if time.monotonic() > broken_until or seconds_left() <= 0:
                    raise
                link.connect_again(error, seconds_left())
                continue
            broken_until = None
            targets.refresh(uri)
            tell_totals(link.settings.cluster, answer.get("totals"))
            offset = answer["offset"]
            text = answer.get("value_json")
            progress = Progress(
                answer["state"],
                answer["lines"],
                answer["skipped"],
                answer.get("detail"),
                answer.get("record"),
                None if text is None else json.loads(text),
                offset,
                answer.get("levels", ""),
            )
            yield progress
            if progress.has_ended:
                return


def wait(link: Link, targets: Targets, uri: ObjectURI, timeout: float | None) -> dict[str, Any]:
    """Return the record of ``uri`` when its work has succeeded.

    :param timeout: seconds to wait; None waits without limit.
    :raises RayWaitTimeoutError: it had not ended by then.
    :raises AirflowRayError: it failed, was cancelled or is not known.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout

    def seconds_left() -> float:
        return deadline - time.monotonic()

    try:
        for progress in follow(link, targets, uri, seconds_left=seconds_left):
            if progress.state == State.SUCCEEDED and progress.record is not None:
                return progress.record
            # Of work that has ended only lines are still to come.
            if not State(progress.state).is_final and seconds_left() <= 0:
                raise RayWaitTimeoutError(f"The work for {uri} is {progress.state} after {timeout:g} seconds")
    except RayWaitTimeoutError:
        raise
    except (TimeoutError, RayConnectionError) as error:
        if seconds_left() > 0:
            raise
        raise RayWaitTimeoutError(
            f"The Ray cluster did not tell within {timeout:g} seconds whether the work for {uri} has ended: "
            f"{str(error) or 'it does not answer'}"
        ) from error
    raise errors.exception_for(uri, progress.record or {"state": progress.state})
