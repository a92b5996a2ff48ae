"""The way in as a driver, on a machine that is a node of the cluster."""

from __future__ import annotations

import gc
import logging
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_ray.client.connection.authentication import read_again
from airflow_ray.client.connection.probe import probe_control_service
from airflow_ray.client.connection.process_files import folder_of_process
from airflow_ray.client.connection.ray_session import RaySession
from airflow_ray.client.connection.threads import connect_within, run_in_thread
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from airflow_ray.client.connection.authentication import Authentication
    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI


# Whoever waits for its turn says so itself, before it is given up.
TURN_SECONDS = 1.0
log = logging.getLogger(__name__)


class DriverSession(RaySession):
    """An open connection as a driver; it sees values where they lie in the object store."""

    copies_values = False

    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Return an object without a copy: while it is in use, this process stays a driver."""
        _driver.has_read = True
        return super().fetch(uri, connect_again)


def open_session(settings: RaySettings) -> AbstractContextManager[DriverSession]:
    """Join the cluster that a connection names."""
    return join(settings.address, settings.authentication, settings.namespace, settings.connect_timeout)


@contextmanager
def join(address: str, authentication: Authentication, namespace: str, timeout: float) -> Iterator[DriverSession]:
    """Join the cluster that this machine is a node of; the sessions of a process share one such connection.

    It stays, also without a session, as long as the process uses a value that was read over it.

    :param address: host and port of the cluster's control service, or ``auto``.
    :param timeout: seconds until the connection must be there.
    :raises RayConnectionError: it was not; the subclass and the text tell why.
    """
    from ray._private.client_mode_hook import disable_client_hook

    deadline = time.monotonic() + timeout
    if address != "auto" and not _driver.is_used_at(address):
        probe_control_service(address, authentication, deadline)
    left = max(0.1, deadline - time.monotonic())
    connect_within(
        left + TURN_SECONDS,
        address,
        lambda: _driver.join(address, authentication, namespace, left),
        lambda _: _driver.leave(),
    )
    try:
        yield DriverSession(namespace, disable_client_hook, deadline)
    finally:
        run_in_thread(_driver.leave)


class _Driver:
    """The one connection as a driver that Ray allows a process.

    The lock is held by the thread that makes or ends the connection for as long as that takes, whoever has given it up
    meanwhile: Ray itself knows of one connection only, also while it is in the making.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions = 0
        # Empty while this process is no driver.
        self._address = ""
        self._files = ExitStack()
        #: Whether a value was read over this connection: to look for those in use takes some hundredths of a second.
        self.has_read = False

    def is_used_at(self, address: str) -> bool:
        """Return whether a session uses the cluster at this address."""
        return self._sessions > 0 and self._address == address

    def join(self, address: str, authentication: Authentication, namespace: str, timeout: float) -> None:
        """Let one more session use the cluster.

        :param timeout: seconds to wait until another thread has joined or left.
        """
        if not self._lock.acquire(timeout=timeout):
            raise RayConnectionError(
                f"Cannot connect to the Ray cluster at {address}: for {timeout:.3g} seconds this process has been "
                "joining or leaving a cluster in mode driver or local, and Ray does only one of that at a time. Does "
                "that other cluster answer?"
            )
        try:
            if self._address and not self._sessions and not self._is_needed():
                # Another head may have come in its place meanwhile.
                self._end()
            if self._address and address != self._address:
                self._refuse(address)
            if not self._address:
                self._files = _init_driver(address, authentication, namespace)
                self._address = address
            self._sessions += 1
        finally:
            self._lock.release()

    def leave(self) -> None:
        """Let one session less use the cluster; after the last one the connection ends, unless it is still needed."""
        with self._lock:
            self._sessions -= 1
            if self._sessions:
                return
            if self._is_needed():
                log.info("Values that were read without a copy are in use: still connected to %s", self._address)
            else:
                self._end()

    def _is_needed(self) -> bool:
        """Return whether values that were read over this connection are in use."""
        return self.has_read and _sees_object_store()

    def _refuse(self, address: str) -> NoReturn:
        """Tell why this process cannot join the cluster at another address.

        :raises RayConnectionError: always.
        """
        only_one = (
            f"This process is a driver of the Ray cluster at {self._address} and cannot join {address} too: "
            "Ray allows one cluster for each process in the modes driver and local"
        )
        if self._sessions:
            raise RayConnectionError(only_one)
        raise RayConnectionError(
            f"{only_one}. No connection is open, but values that were read there without a copy are still in use: "
            "copy what you need of them and delete them first, or use mode client for one of the two"
        )

    def _end(self) -> None:
        import ray
        from ray._private.client_mode_hook import disable_client_hook

        with disable_client_hook():
            ray.shutdown()
        read_again()
        self._address, self.has_read = "", False
        self._files.close()


_driver = _Driver()


def _sees_object_store() -> bool:
    """Return whether a value in this process lies in the object store, which may use the place again after a shutdown.

    Each such value holds on to a buffer of Ray's.
    """
    return _has_buffers() and (gc.collect(), _has_buffers())[1]


def _has_buffers() -> bool:
    from ray._raylet import SubBuffer  # type: ignore[attr-defined]

    return any(type(each) is SubBuffer for each in gc.get_objects())


def _init_driver(address: str, authentication: Authentication, namespace: str) -> ExitStack:
    """Become a driver, and return what holds the files that Ray needs as long as this is one."""
    import ray
    from ray._private.client_mode_hook import disable_client_hook

    with ExitStack() as stack:
        folder = stack.enter_context(folder_of_process())
        try:
            with authentication.prepare_driver(folder), disable_client_hook():
                ray.init(address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)
        # The next connection of this process must not send this one's token.
        except BaseException:
            read_again()
            raise
        return stack.pop_all()
