"""Calls of Ray in threads of their own, so that no signal interrupts them and none lasts for ever."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ray.client.connection.reasons import reason_of
from airflow_ray.exceptions import AirflowRayError, RayConnectionError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

TELL_SECONDS = 5.0


def connect_within(
    timeout: float, address: str, connect: Callable[[], T], close: Callable[[T], None], earlier: str = ""
) -> T:
    """Return the connection that ``connect`` makes in a thread of its own.

    :param timeout: seconds until it must be there.
    :param address: of the cluster, for errors.
    :param close: ends a connection that comes when nobody waits for it any more.
    :param earlier: how an earlier try has failed, for the error when the time is over.
    :raises RayConnectionError: there was none in time, or what Ray says of it.
    """
    future = start_in_thread(connect)
    try:
        with _quiet_loggers():
            return await_result(future, timeout)
    except BaseException as error:
        # Also if this one was interrupted: by a signal handler that raises.
        _close_when_there(future, close)
        if isinstance(error, AirflowRayError) or not isinstance(error, Exception):
            raise
        if isinstance(error, TimeoutError):
            raise RayConnectionError(
                f"No connection to the Ray cluster at {address} within {timeout:.3g} seconds. {earlier}".rstrip()
            ) from None
        # Ray raises whatever it likes here, down to plain Exception.
        raise _connection_failure(address, error) from error


def _close_when_there(future: Future[T], close: Callable[[T], None]) -> None:
    def close_if_there(done: Future[T]) -> None:
        if done.exception() is None:
            start_in_thread(lambda: close(done.result()))

    future.add_done_callback(close_if_there)


def run_in_thread(function: Callable[[], T], timeout: float | None = None) -> T:
    """Return what ``function`` returns in a daemon thread.

    :param timeout: seconds to wait; None waits without limit.
    :raises TimeoutError: it had not returned by then; the thread goes on.
    """
    return await_result(start_in_thread(function), timeout)


def await_result(future: Future[T], timeout: float | None) -> T:
    """Return the result of ``future``.

    :raises TimeoutError: it was not there within ``timeout`` seconds.
    """
    try:
        return future.result(timeout)
    except FutureTimeoutError:
        if future.done():
            raise
        raise TimeoutError from None


def await_telling(future: Future[T], tell: Callable[[], None]) -> T:
    """Return the result of ``future``.

    :param tell: is called each :data:`TELL_SECONDS` until it is there; what it raises ends the wait.
    """
    while True:
        try:
            return future.result(TELL_SECONDS)
        except FutureTimeoutError:
            # It may be what the future itself has raised.
            if future.done():
                return future.result()
            tell()


async def in_own_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Return what ``function`` returns in a thread of its own.

    All triggers of a triggerer share the few threads of asyncio itself: those that wait for a cluster which does not
    answer would keep others from theirs.
    """
    # By that Airflow knows whose log a line belongs to.
    context = contextvars.copy_context()
    return await asyncio.wrap_future(start_in_thread(lambda: context.run(function, *args, **kwargs)))


def start_in_thread(function: Callable[[], T]) -> Future[T]:
    """Call ``function`` in a daemon thread of its own, and return at once."""
    future: Future[T] = Future()
    # Nobody takes it back: the thread is to set a result.
    future.set_running_or_notify_cancel()

    def target() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=target, name="airflow-ray", daemon=True).start()
    return future


def _connection_failure(address: str, error: BaseException) -> AirflowRayError:
    text = str(error)
    if "ersion mismatch" in text or "versions" in text.lower():
        return RayVersionMismatchError(
            f"The Ray cluster at {address} and this Airflow worker must run the same Ray and the same Python "
            f"minor version: {text}"
        )
    return RayConnectionError(f"Cannot connect to the Ray cluster at {address}: {reason_of(error)}.")


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
