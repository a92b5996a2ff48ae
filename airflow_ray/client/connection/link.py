"""The link to the cluster that an Airflow connection names, whatever the way in."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.connection import local_head
from airflow_ray.client.connection.as_client import client_session
from airflow_ray.client.connection.as_driver import driver_session
from airflow_ray.client.connection.authentication import Authentication
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.exceptions import RayAuthenticationError, RayConnectionError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings

RECONNECT_SECONDS = 1.0

log = logging.getLogger(__name__)


@contextmanager
def open_session(settings: RaySettings) -> Iterator[Session]:
    """Connect as an Airflow connection says.

    :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
    """
    namespace, timeout = settings.namespace, settings.connect_timeout
    with ExitStack() as stack:
        if settings.mode == "client":
            opened = client_session(settings.address, settings.authentication, namespace, timeout)
        elif settings.mode == "driver":
            opened = driver_session(settings.address, settings.authentication, namespace, timeout)
        else:
            head = local_head.ensure(timeout)
            opened = driver_session(head.address, Authentication(local_head.token()), namespace, timeout)
        yield stack.enter_context(opened)


class Link:
    """Calls the owner over a connection that it opens when it is needed, and opens again when it breaks.

    It belongs to the thread that uses it.

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
    def is_client(self) -> bool:
        """Whether values are copied on their way, and nothing of Ray's can be used in this process."""
        return self.settings.mode == "client"

    @property
    def session(self) -> Session:
        """The connection that is open.

        :raises RayConnectionError: there is none.
        """
        if self._session is None:
            raise RayConnectionError("Not connected: use the hook within hook.connect()")
        return self._session

    @contextmanager
    def connect(self) -> Iterator[None]:
        """Hold one connection for as long as the context lasts.

        :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
        """
        if self._session is not None:
            yield
            return
        with ExitStack() as self._connection:
            self._session = self._connection.enter_context(open_session(self.settings))
            try:
                yield
            finally:
                self._session = None

    def connect_again(self, broken: RayConnectionError) -> None:
        """Open a new connection in place of one that broke.

        :raises RayConnectionError: there was none within ``connect_timeout``.
        """
        log.warning("%s Connecting again.", broken)
        self._connection.close()
        deadline = time.monotonic() + self.settings.connect_timeout
        while True:
            left = max(1.0, deadline - time.monotonic())
            try:
                opened = open_session(replace(self.settings, connect_timeout=left))
                self._session = self._connection.enter_context(opened)
            except (RayAuthenticationError, RayVersionMismatchError):
                raise
            except RayConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RECONNECT_SECONDS)
            else:
                log.info("Connected again")
                return

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer.

        :raises RayConnectionError: there is no connection, or it broke.
        :raises RayOwnerDiedError: the owner has died.
        """
        with self.connect():
            return self.session.call(method, *args, **kwargs)
