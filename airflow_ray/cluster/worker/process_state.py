"""What belongs to a whole process, which one task after another uses."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


@contextmanager
def keep_process_state() -> Iterator[None]:
    """Put back, at the end, what a callable has changed in this process for all that comes after it.

    That is the environment, the working directory, ``sys.path`` and ``sys.argv``, the umask, the default timeout of
    sockets, handlers and timers of signals, the event loop, and the filters of warnings. What modules hold is not: they
    stay loaded.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.callback(logging.disable, logging.root.manager.disable)
        stack.callback(logging.captureWarnings, False)
        stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
        # A loop that was run and closed leaves its thread without one, and with an error for whoever asks for it.
        stack.callback(asyncio.set_event_loop_policy, None)
        stack.callback(os.umask, _umask())
        stack.callback(_set_directory, _directory())
        stack.callback(_set_list, "argv", sys.argv, sys.argv[:])
        stack.callback(_set_list, "path", sys.path, sys.path[:])
        stack.callback(_set_environment, dict(os.environ))
        stack.callback(_set_handlers, {each: signal.getsignal(each) for each in signal.valid_signals()})
        stack.callback(_stop_timers, [each for each in _TIMERS if not signal.getitimer(each)[0]])
        yield


@contextmanager
def keep_recursion_limit() -> Iterator[None]:
    """Put the limit of recursion back, at the end: a value may need what the callable has set to be pickled."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _directory() -> str | None:
    # An earlier callable may have deleted it.
    with suppress(OSError):
        return os.getcwd()
    return None


def _set_directory(path: str | None) -> None:
    with suppress(OSError):
        os.chdir(path or os.sep)


def _set_list(name: str, values: list[str], content: list[str]) -> None:
    """Make the list of that name in ``sys`` the one that it was, with what it held."""
    values[:] = content
    setattr(sys, name, values)


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        # Not all anew: threads that read it meanwhile find each variable.
        if os.environ.get(name) != value:
            os.environ[name] = value
    # The C library has its own idea of the time zone.
    time.tzset()


def _set_handlers(handlers: dict[int, Any]) -> None:
    """Set handlers of signals: Ray Train, for one, leaves a handler that would keep its actors alive."""
    # Only there can they be set.
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in handlers.items():
        # One that is None was not set by Python, and cannot be set by it.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _stop_timers(timers: list[int]) -> None:
    for timer in timers:
        signal.setitimer(timer, 0)
