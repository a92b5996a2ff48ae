"""Opens a connection, whatever the way in: once, again until a cluster comes back, or for one call."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection import as_client, as_driver, as_gateway, local_head
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import tries
from airflow_ray.client.connection.threads import await_result
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings


#: The way in of each mode.
OPENERS: dict[str, Callable[[RaySettings], AbstractContextManager[Session]]] = {
    "gateway": as_gateway.open_session,
    "client": as_client.open_session,
    "driver": as_driver.open_session,
    "local": local_head.open_session,
}


# One that is silent for so long may have been dead for long: a cancel that is sent twice does no harm.
ASIDE_SECONDS = 1.5
log = logging.getLogger(__name__)


@contextmanager
def open_session(settings: RaySettings) -> Iterator[Session]:
    """Connect as an Airflow connection says, to the cluster that the settings are of.

    :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
    """
    with ExitStack() as stack:
        try:
            session = stack.enter_context(OPENERS[settings.mode](settings.located()))
        except RayConnectionError as error:
            if settings.cluster.is_shared:
                raise
            cluster = settings.cluster
            raise type(error)(
                f"{sentence_of(error)} So {cluster} cannot be reached: see whether it runs, and whether the task "
                "that makes it comes before this one"
            ) from error
        yield session


@contextmanager
def open_persistently(settings: RaySettings, stopped: threading.Event | None = None) -> Iterator[Session]:
    """Connect to a cluster that may come back, trying again until ``connect_timeout`` is over.

    :param stopped: gives it up.
    :raises RayConnectionError: as :func:`open_session`, when the time is over.
    """
    deadline = time.monotonic() + settings.connect_timeout
    with ExitStack() as stack:

        def connect() -> Session:
            left = max(1.0, deadline - time.monotonic())
            return stack.enter_context(open_session(settings.model_copy(update={"connect_timeout": left})))

        yield tries(settings.connect_timeout, stopped=stopped)(connect)


def call_from_aside(session: Session | None, settings: RaySettings, method: str, *args: Any) -> Any:
    """Call a method of the owner beside the thread that a connection belongs to, and return its answer.

    :param session: of that thread; None, or one that breaks, leads to a connection for this call alone.
    :raises RayConnectionError: that could not be made, or broke too.
    """
    if session is not None:
        try:
            return await_result(session.begin(method, *args), ASIDE_SECONDS)
        except RayConnectionError as error:
            log.info("%s Connecting once more for %s.", sentence_of(error), method)
        except TimeoutError:
            log.info("The connection is silent. Connecting once more for %s.", method)
    with open_session(settings) as own:
        return own.call(method, *args)
