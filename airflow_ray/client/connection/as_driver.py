"""A connection as a driver, on a machine that is a node of the cluster."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from airflow_ray.client.connection.authentication import Authentication, read_again
from airflow_ray.client.connection.probe import probe_control_service
from airflow_ray.client.connection.session import Session
from airflow_ray.client.connection.threads import call_within
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def driver_session(address: str, authentication: Authentication, namespace: str, timeout: float) -> Iterator[Session]:
    """Join the cluster that this machine is a node of; the sessions of a process share one such connection.

    :param address: host and port of the cluster's control service, or ``auto``.
    :param timeout: seconds until the connection must be there.
    :raises RayConnectionError: it was not; the subclass and the text tell why.
    """
    from ray._private.client_mode_hook import disable_client_hook

    deadline = time.monotonic() + timeout
    _driver.join(address, authentication, namespace, timeout)
    try:
        yield Session(namespace, disable_client_hook, deadline)
    finally:
        _driver.leave()


class _Driver:
    """The one connection as a driver that Ray allows a process, open as long as a session uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions = 0
        self._address = ""
        self._files = ExitStack()

    def join(self, address: str, authentication: Authentication, namespace: str, timeout: float) -> None:
        with self._lock:
            if self._sessions == 0:
                if address != "auto":
                    probe_control_service(address, authentication, time.monotonic() + timeout)
                with ExitStack() as stack:
                    folder = Path(stack.enter_context(TemporaryDirectory(prefix="airflow-ray-")))
                    with authentication.prepare_driver(folder):
                        call_within(timeout, address, lambda: _init_driver(address, namespace))
                    self._files = stack.pop_all()
                self._address = address
            elif address != self._address:
                raise RayConnectionError(
                    f"This process is a driver of the Ray cluster at {self._address} and cannot join {address} too: "
                    "Ray allows one cluster for each process in the modes driver and local"
                )
            self._sessions += 1

    def leave(self) -> None:
        import ray
        from ray._private.client_mode_hook import disable_client_hook

        with self._lock:
            self._sessions -= 1
            if self._sessions == 0:
                with disable_client_hook():
                    ray.shutdown()
                read_again()
                self._files.close()


_driver = _Driver()


def _init_driver(address: str, namespace: str) -> None:
    import ray
    from ray._private.client_mode_hook import disable_client_hook

    with disable_client_hook():
        ray.init(address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)
