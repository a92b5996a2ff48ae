"""One open connection to a Ray cluster: as a Ray Client or as a driver."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ray.exceptions import (
    AirflowRayError,
    RayConnectionError,
    RayOwnerDiedError,
    RayVersionMismatchError,
)
from airflow_ray.hooks import local_head
from airflow_ray.hooks.authentication import Authentication, read_again
from airflow_ray.hooks.probe import probe_client_server, probe_control_service
from airflow_ray.hooks.user_code import pickled_by_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.hooks.settings import RaySettings

T = TypeVar("T")
RETRY_SECONDS = 0.5
# A Ray Client whose server has died may get a new one, which knows none of its objects.
NOT_FOUND = "not found for client"
# Ray starts a process for each client; a crash while it starts is known and worth another try.
CRASHED = ("Starting Ray client server failed", "session that has already been cleaned up")
# Ray turns its client mode off when the last client disconnects, also while another one connects.
_client_lock = threading.Lock()


class Session:
    """An open connection with the owner of one namespace.

    :param owner: the owner's handle, good within :meth:`active` only.
    :param active: makes this connection the one that ``ray`` uses in the calling thread.
    """

    def __init__(self, namespace: str, active: Callable[[], Any], deadline: float) -> None:
        self.active = active
        self._namespace = namespace
        try:
            self.owner = self.run(self._find_owner, max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            raise RayConnectionError(
                "Connected, but the owner actor did not start on the Ray head in time: the head may be out of memory"
            ) from None
        except RuntimeError as error:
            raise RayConnectionError(f"The owner actor could not be started on the Ray head: {error}") from error

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer.

        :raises RayOwnerDiedError: the owner has died; the next connection makes a new one.
        :raises RayConnectionError: the connection broke and could not be made again by Ray.
        """
        return self.begin(method, *args, **kwargs).result()

    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once; the future raises what :meth:`call` does."""

        return self.start(lambda: self._answer(method, *args, **kwargs))

    def _answer(self, method: str, *args: Any, **kwargs: Any) -> Any:
        import ray

        with self.errors_translated():
            return ray.get(getattr(self.owner, method).remote(*args, **kwargs))

    @contextmanager
    def errors_translated(self) -> Iterator[None]:
        """Raise what :meth:`call` does in place of what Ray raises when the owner dies or the connection breaks."""
        import grpc
        from ray.exceptions import OutOfMemoryError, RayActorError

        try:
            yield
        except (RayActorError, OutOfMemoryError) as error:
            raise RayOwnerDiedError(
                f"The owner actor of namespace {self._namespace!r} on the Ray head has died, and with it the work "
                "it ran and the objects it held. Try this task again, and clear the tasks whose objects it needs. "
                f"Ray says: {error}"
            ) from error
        except (ConnectionError, ValueError, grpc.RpcError) as error:
            if isinstance(error, ValueError) and NOT_FOUND not in str(error):
                raise
            raise RayConnectionError(f"The connection to the Ray cluster broke: {error}.") from error

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function``, which may use ``ray``, in a thread of its own, and return at once."""

        def target() -> T:
            with self.active():
                return function()

        return _begun_in_thread(target)

    def run(self, function: Callable[[], T], timeout: float | None = None) -> T:
        """Return what ``function`` returns, which may use ``ray``.

        It runs in a thread of its own: a signal handler that raises, as Airflow's for a timeout does,
        must not interrupt Ray's own code, which then loses the exception or a lock.

        :param timeout: seconds to wait; None waits without limit.
        :raises TimeoutError: it had not returned by then.
        """

        return _awaited(self.start(function), timeout)

    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""
        import ray

        from airflow_ray.cluster.protocol import OWNER_NAME, OWNER_PREFIX

        names = self.run(ray.util.list_named_actors)
        return sorted(name for name in names if name.startswith(OWNER_PREFIX) and name != OWNER_NAME)

    def _find_owner(self) -> Any:
        import airflow_ray.cluster
        from airflow_ray.cluster.keeper import owner_handle

        return _knowing_methods(owner_handle(self._namespace, lambda: pickled_by_value([airflow_ray.cluster])))


def _knowing_methods(owner: Any) -> Any:
    """Return a handle whose methods are known: a Ray Client would start a worker process to ask for them."""
    from ray.util.client.common import ClientActorClass, ClientActorHandle

    from airflow_ray.cluster.owner import Owner

    if isinstance(owner, ClientActorHandle):
        return ClientActorHandle(owner.actor_ref, ClientActorClass(Owner))
    return owner


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
                        _within(timeout, address, lambda: _init_driver(address, namespace))
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
            return _within(
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


def _init_driver(address: str, namespace: str) -> None:
    import ray
    from ray._private.client_mode_hook import disable_client_hook

    with disable_client_hook():
        ray.init(address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)


def _within(timeout: float, address: str, connect: Callable[[], T]) -> T:
    try:
        with _quiet_loggers():
            return _in_thread(connect, timeout)
    except TimeoutError:
        raise RayConnectionError(
            f"No connection to the Ray cluster at {address} within {timeout:.3g} seconds"
        ) from None
    # Ray raises whatever it likes here, down to plain Exception.
    except Exception as error:
        raise _translated(address, error) from error


def _in_thread(function: Callable[[], T], timeout: float | None = None) -> T:
    """Return what ``function`` returns in a daemon thread.

    :param timeout: seconds to wait; None waits without limit.
    :raises TimeoutError: it had not returned by then; the thread goes on.
    """
    return _awaited(_begun_in_thread(function), timeout)


def _awaited(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except FutureTimeoutError:
        if future.done():
            raise
        raise TimeoutError from None


def _begun_in_thread(function: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def target() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=target, name="airflow-ray", daemon=True).start()
    return future


def _translated(address: str, error: BaseException) -> AirflowRayError:
    text = str(error)
    if "ersion mismatch" in text or "versions" in text.lower():
        return RayVersionMismatchError(
            f"The Ray cluster at {address} and this Airflow worker must run the same Ray and the same Python "
            f"minor version: {text}"
        )
    return RayConnectionError(f"Cannot connect to the Ray cluster at {address}: {text or type(error).__name__}")


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Drop what Ray logs on each connect, and its warning that SIGTERM keeps its handler.

    By that handler Airflow tells a task that it is killed. The second logger repeats what the server
    logs for its own end of the connection.
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING and not record.getMessage().startswith("SIGTERM handler is not set")

    loggers = [
        logging.getLogger(name) for name in ("ray._private.worker", "ray.client_builder", "ray.util.client.logsclient")
    ]
    for logger in loggers:
        logger.addFilter(is_wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_wanted)
