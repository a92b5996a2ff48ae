"""Calls that are given up when the other end gives no sign of life."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.threads import T

CHECK_SECONDS = 5.0


class _Watched(NamedTuple):
    since: float
    seconds: float
    give_up: Callable[[], None]


class Signs:
    """Runs functions in threads of their own, and gives up those that nothing is heard of."""

    def __init__(self) -> None:
        # Guards the two below: a thread watches as long as there is something to watch.
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._keys = itertools.count()

    def start(self, function: Callable[[Callable[..., None]], T], seconds: float) -> Future[T]:
        """Begin to call a function, and return at once.

        :param function: takes what it calls for each sign of life, with other seconds where the next may take longer.
        :param seconds: after the last one of which the future fails with a :class:`RayConnectionError`.
        """
        future: Future[T] = Future()
        key = next(self._keys)

        def give_up() -> None:
            with suppress(InvalidStateError):
                future.set_exception(
                    RayConnectionError(f"The connection to the Ray cluster broke: no sign of life for {seconds:.3g} s.")
                )

        def note(within: float = seconds) -> None:
            self._note(key, _Watched(time.monotonic(), within, give_up))

        def target() -> None:
            note()
            # Whoever waited may have given it up.
            with suppress(InvalidStateError):
                try:
                    future.set_result(function(note))
                except BaseException as error:
                    future.set_exception(error)
            self._forget(key)

        threading.Thread(target=target, name="airflow-ray", daemon=True).start()
        return future

    def _note(self, key: int, watched: _Watched) -> None:
        with self._lock:
            self._watched[key] = watched
            # A child of a fork has no thread of its parent.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="airflow-ray-signs", daemon=True)
                self._thread.start()

    def _forget(self, key: int) -> None:
        with self._lock:
            self._watched.pop(key, None)

    def _watch(self) -> None:
        while True:
            time.sleep(CHECK_SECONDS)
            with self._lock:
                now = time.monotonic()
                silent = [key for key, each in self._watched.items() if each.since + each.seconds < now]
                gone = [self._watched.pop(key) for key in silent]
                is_over = not self._watched
                if is_over:
                    self._thread = None
            for each in gone:
                each.give_up()
            if is_over:
                return
