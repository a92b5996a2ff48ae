"""The link to the cluster that an Airflow connection names, whatever the way in."""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.connection import as_client, as_driver, as_gateway, local_head
from airflow_ray.client.connection.retrying import is_passing, tries
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.connection.threads import await_result
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.connection.threads import T
    from airflow_ray.object_uri import ObjectURI


#: The way in of each mode.
OPENERS: dict[str, Callable[[RaySettings], AbstractContextManager[Session]]] = {
    "gateway": as_gateway.open_session,
    "client": as_client.open_session,
    "driver": as_driver.open_session,
    "local": local_head.open_session,
}


# What becomes of the work, which nobody knows while the cluster does not answer.
_AFTER = (
    "If the head is lost, so are its work and its objects, and the next try of the task starts anew; otherwise the "
    "work goes on, and so does the next try with it."
)


# One that is silent for so long may have been dead for long: a cancel that is sent twice does no harm.
ASIDE_SECONDS = 1.5


log = logging.getLogger(__name__)


def open_session(settings: RaySettings) -> AbstractContextManager[Session]:
    """Connect as an Airflow connection says.

    :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
    """
    return OPENERS[settings.mode](settings)


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
            log.info("%s Connecting once more for %s.", error, method)
        except TimeoutError:
            log.info("The connection is silent. Connecting once more for %s.", method)
    with open_session(settings) as own:
        return own.call(method, *args)


class Link:
    """Calls the owner and moves values over a connection that it opens when it is needed, and again when it breaks.

    It belongs to the thread that uses it; only :meth:`call_from_aside` may be called by another one.

    :param conn_id: Airflow connection of type ``ray``.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._session: Session | None = None
        self._connection = ExitStack()

    @cached_property
    def settings(self) -> RaySettings:
        """What the connection says.

        :raises RayConfigurationError: a field of the connection is wrong.
        """
        return settings_of(BaseHook.get_connection(self.conn_id))

    @property
    def session(self) -> Session:
        """The connection that is open.

        :raises RayConnectionError: there is none.
        """
        if self._session is None:
            raise RayConnectionError("Not connected: use the hook within hook.connect()")
        return self._session

    @contextmanager
    def connect(self, seconds: float = math.inf) -> Iterator[None]:
        """Hold one connection for as long as the context lasts.

        :param seconds: until when it must be there, where that is before ``connect_timeout``.
        :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
        """
        if self._session is not None:
            yield
            return
        with ExitStack() as stack:
            self._session = stack.enter_context(open_session(self._settings_within(seconds)))
            outer, self._connection = self._connection, stack
            try:
                yield
            finally:
                self._session, self._connection = None, outer

    def connect_again(self, broken: RayConnectionError, seconds: float = math.inf) -> Session:
        """Open a new connection in place of one that broke, and return it.

        :param seconds: until when it must be there, where that is before ``connect_timeout``.
        :raises RayConnectionError: there was none by then.
        """
        log.warning("%s Connecting again.", broken)
        settings = self._settings_within(seconds)
        try:
            self._open_anew(settings)
        except RayConnectionError as error:
            raise type(error)(
                f"{broken} None came in its place within {settings.connect_timeout:.3g} seconds. {error} {_AFTER}"
            ) from error
        log.info("Connected again")
        return self.session

    def through_breaks(self, function: Callable[[], T]) -> T:
        """Return what a function returns, which is called again over the next connection where one breaks.

        :param function: what does no harm when it is done twice.
        :raises RayConnectionError: it broke again after ``connect_timeout`` seconds, or none came in its place.
        :raises RayOwnerDiedError: the owner has died, and so has the next one.
        """
        deadline = math.inf
        while True:
            try:
                return self._despite_an_end(function)
            except RayConnectionError as error:
                deadline = min(deadline, time.monotonic() + self.settings.connect_timeout)
                if not is_passing(error) or time.monotonic() > deadline:
                    raise
                self.connect_again(error)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner, or of the next one where that has ended, and return its answer.

        :raises RayConnectionError: there is no connection, or it broke.
        :raises RayOwnerDiedError: both have died.
        """
        with self.connect():
            return self._despite_an_end(lambda: self.call_same(method, *args, **kwargs))

    def call_same(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner that this connection has led to, and return its answer.

        :raises RayConnectionError: there is no connection, or it broke.
        :raises RayOwnerDiedError: it has died.
        """
        with self.connect():
            return self.session.call(method, *args, **kwargs)

    def call_within(self, seconds: float, method: str, *args: Any) -> Any:
        """Do the same, and wait no longer for the answer than this, which may be infinite.

        :raises TimeoutError: it had not come by then.
        """
        if math.isinf(seconds):
            return self.call_same(method, *args)
        with self.connect():
            return await_result(self.session.begin(method, *args), seconds)

    def call_from_aside(self, method: str, *args: Any) -> Any:
        """Do the same for a signal handler or another thread, whatever this link's own thread is doing meanwhile."""
        return call_from_aside(self._session, self.settings, method, *args)

    def send(self, value: Any) -> tuple[Any, list[Any]]:
        """Bring a value to the cluster over the connection that is open, as :meth:`Session.send` does."""
        return self.session.send(value, self.connect_again)

    def _settings_within(self, seconds: float) -> RaySettings:
        timeout = max(0.0, min(seconds, self.settings.connect_timeout))
        return self.settings.model_copy(update={"connect_timeout": timeout})

    def fetch(self, uri: ObjectURI) -> Any:
        """Return an object of the cluster over the connection that is open, as :meth:`Session.fetch` does."""
        return self._despite_an_end(lambda: self.session.fetch(uri, self.connect_again))

    def _despite_an_end(self, function: Callable[[], T]) -> T:
        """Return what a function returns, which is called once more where the owner has ended: it does so when idle."""
        try:
            return function()
        except RayOwnerDiedError:
            log.info(
                "What keeps the objects on the Ray head is gone. It ends when it has had none for a while, and then "
                "nothing is lost. Starting it again"
            )
            self._open_anew(self.settings)
            return function()

    def _open_anew(self, settings: RaySettings) -> None:
        self._session = None
        self._connection.close()
        self._session = self._connection.enter_context(open_persistently(settings))
