"""A connection as a Ray Client."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.probe import probe_client_server
from airflow_ray.client.connection.session import Session
from airflow_ray.client.connection.threads import call_within
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.authentication import Authentication


RETRY_SECONDS = 0.5


# Ray starts a process for each client; a crash while it starts is known and worth another try.
CRASHED = ("Starting Ray client server failed", "session that has already been cleaned up")


# Ray turns its client mode off when the last client disconnects, also while another one connects.
_client_lock = threading.Lock()


@contextmanager
def client_session(address: str, authentication: Authentication, namespace: str, timeout: float) -> Iterator[Session]:
    """Connect as a Ray Client.

    :param address: host and port of the Ray Client server.
    :param timeout: seconds until the connection must be there.
    :raises RayConnectionError: it was not; the subclass and the text tell why.
    """
    import ray
    from ray.util.client import ray as client_stub

    deadline = time.monotonic() + timeout
    probe_client_server(address, authentication, deadline)
    with _client_lock:
        context = _connected(address, authentication, namespace, deadline)
    handler = context._context_to_restore

    @contextmanager
    def active() -> Iterator[None]:
        previous = client_stub.set_context(handler)
        try:
            yield
        finally:
            client_stub.set_context(previous)

    try:
        yield Session(namespace, active, deadline)
    finally:
        # A connection that broke cannot say goodbye.
        with suppress(Exception), active(), _client_lock:
            ray.util.client_connect.disconnect()


def _connected(address: str, authentication: Authentication, namespace: str, deadline: float) -> Any:
    import ray

    options = {
        "namespace": namespace,
        "allow_multiple": True,
        "_credentials": authentication.credentials,
        "_metadata": authentication.metadata,
    }
    crash: RayConnectionError | None = None
    while True:
        try:
            return call_within(
                max(0.1, deadline - time.monotonic()),
                address,
                lambda: ray.init(f"ray://{address}", **options),
            )
        except RayConnectionError as error:
            crashed = any(sign in str(error) for sign in CRASHED)
            crash = error if crashed else crash
            if time.monotonic() > deadline and crash is not None:
                raise crash from crash.__cause__
            if not crashed:
                raise
        time.sleep(RETRY_SECONDS)
