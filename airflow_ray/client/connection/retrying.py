"""The one way in which this package tries again to connect."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import tenacity

from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayClusterGoneError,
    RayConnectionError,
    RayForkedError,
    RayGatewayUnreachableError,
    RayVersionMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
_LASTING = (
    RayAuthenticationError,
    RayClusterGoneError,
    RayForkedError,
    RayGatewayUnreachableError,
    RayVersionMismatchError,
)


log = logging.getLogger(__name__)


def is_passing(error: BaseException) -> bool:
    """Whether another try may end better than this error."""
    return isinstance(error, RayConnectionError) and not isinstance(error, _LASTING)


def tries(
    seconds: float,
    is_worth_it: Callable[[BaseException], bool] = is_passing,
    stopped: threading.Event | None = None,
) -> tenacity.Retrying:
    """Return what calls a function again while it fails, with pauses that grow, and raises its last error in the end.

    :param seconds: no call begins later than this after the first one.
    :param is_worth_it: tells for which errors it is called again.
    :param stopped: ends a pause, and it is not called again.
    """
    event = stopped or threading.Event()
    return tenacity.Retrying(
        sleep=tenacity.sleep_using_event(event),
        stop=tenacity.stop_any(tenacity.stop_before_delay(seconds), tenacity.stop_when_event_set(event)),
        wait=tenacity.wait_exponential(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        # Many may wait for one head that comes back.
        + tenacity.wait_random(0.0, FIRST_PAUSE_SECONDS),
        retry=tenacity.retry_if_exception(is_worth_it),
        before_sleep=_tell,
        reraise=True,
    )


def _tell(state: tenacity.RetryCallState) -> None:
    if state.outcome and (error := state.outcome.exception()):
        log.warning("%s Trying again in %.1f s.", sentence_of(error), state.upcoming_sleep)
