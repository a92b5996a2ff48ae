"""One Ray connection, in a thread of its own, for all who wait in this process on one cluster."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.opening import call_from_aside, open_persistently
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import FIRST_PAUSE_SECONDS, is_passing
from airflow_ray.client.metrics import tell_totals
from airflow_ray.exceptions import AirflowRayError, RayConnectionError, RayOwnerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future

    from airflow_ray.client.connection.clusters import Cluster
    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI


# Many may end, or begin to wait, at about the same time.
MIN_SECONDS_BETWEEN_CALLS = 0.25
LINGER_SECONDS = 30.0
STOP_SECONDS = 5.0
# In which what was delivered is usually where it belongs, so that one call goes on with all.
CONFIRM_SECONDS = 1.0
log = logging.getLogger(__name__)
_lock = threading.Lock()
_watchers: dict[Cluster, Watcher] = {}


@dataclass(eq=False)
class Subscription:
    """What one waits for.

    :param uri: the object.
    :param follows: whether its work is followed, with its log lines, or the object awaited, whoever makes it.
    :param poll_interval: seconds between two calls to the cluster while nothing ends.
    :param deliver: called in the watcher's thread with this and each news: what the owner's ``watch`` returns, or a
        dict with the only key ``error``, an :class:`~airflow_ray.exceptions.AirflowRayError`. It must not block. Who
        follows work gets no further news before these are confirmed to the watcher.
    :param offset: number of the log line to begin with; None begins where an earlier follower stopped.

    ``is_busy`` is whether news are yet to be confirmed.
    """

    uri: ObjectURI
    follows: bool
    poll_interval: float
    deliver: Callable[[Subscription, dict[str, Any]], None]
    offset: int | None = None
    is_busy: bool = field(default=False, init=False)

    @property
    def wanted(self) -> tuple[str, str | None, int | None]:
        """What the owner's ``watch`` takes."""
        return self.uri.record_id, None if self.follows else self.uri.key, self.offset


@contextmanager
def watching(settings: RaySettings, subscriptions: Collection[Subscription]) -> Iterator[Watcher]:
    """Deliver news to subscriptions for as long as the context lasts, over the one connection to their cluster.

    :param settings: of that cluster.
    """
    with _lock:
        watcher = _watchers.get(settings.cluster)
        if watcher is None:
            watcher = _watchers[settings.cluster] = Watcher(settings)
            watcher.start()
        watcher.subscribe(settings, subscriptions)
    try:
        yield watcher
    finally:
        with _lock:
            watcher.unsubscribe(subscriptions)


def cancel(uri: ObjectURI, settings: RaySettings, holder: str) -> None:
    """Stop the work of a holder with all it started, over the connection that is there or else a new one.

    :param settings: of its cluster.
    """
    with _lock:
        watcher = _watchers.get(settings.cluster)
    session = None if watcher is None else watcher.session
    call_from_aside(session, settings, "cancel", uri.record_id, holder)


@cache
def _stop_at_exit() -> None:
    """Let no watcher use Ray while the process ends. Once Ray is imported: what is registered later runs earlier."""
    atexit.register(stop_all)


def stop_all() -> None:
    """End all watchers of this process with their connections, whoever waits."""
    with _lock:
        watchers = list(_watchers.values())
        _watchers.clear()
    for watcher in watchers:
        watcher.stop()
    for watcher in watchers:
        watcher.join(STOP_SECONDS)


class Watcher(threading.Thread):
    """Asks the owner for news of all that is waited for on one cluster, in one call an interval."""

    def __init__(self, settings: RaySettings) -> None:
        super().__init__(name=f"airflow-ray-watcher-{settings.conn_id}", daemon=True)
        self._cluster = settings.cluster
        self._stopped = threading.Event()
        self._id = ""
        self._settings = settings
        self._subscriptions: set[Subscription] = set()
        self._wake = threading.Event()
        #: The connection that is open at the moment.
        self.session: Session | None = None
        self._call: Future[Any] | None = None
        # When the call that is under way, or the next one, is answered at the latest, by the monotonic clock.
        self._due: float | None = None

    def subscribe(self, settings: RaySettings, subscriptions: Collection[Subscription]) -> None:
        """Take on subscriptions; the newest settings are those of the next connection."""
        self._settings = settings
        self._subscriptions.update(subscriptions)
        self._wake.set()

    def unsubscribe(self, subscriptions: Collection[Subscription]) -> None:
        """Deliver no further news to these."""
        self._subscriptions.difference_update(subscriptions)

    def confirm(self, subscription: Subscription, offset: int | None) -> None:
        """Take note that the log lines before ``offset`` are where they belong, and may be forgotten."""
        subscription.offset = offset
        # Of one that has ended, nobody waits for this.
        if subscription.is_busy:
            subscription.is_busy = False
            self._wake.set()

    def stop(self) -> None:
        """End the thread and its connection soon, whoever waits."""
        self._stopped.set()
        self._wake.set()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner.

        :raises RayConnectionError: there is no connection at the moment, or it breaks.
        """
        session = self.session
        if session is None:
            raise RayConnectionError(f"There is no connection to {self._cluster} at the moment")
        return session.call(method, *args, **kwargs)

    def run(self) -> None:
        """Deliver news until nobody has waited for a while."""
        while self._waiting():
            try:
                self._watch()
            except RayOwnerDiedError as error:
                # An object may be made again; the work that one follows has died with the owner.
                self._fail([each for each in self._current() if each.follows], error)
            except AirflowRayError as error:
                self._fail(self._current(), error)
            # Whatever it is, they wait: none may wait for a thread that has ended.
            except Exception as error:
                log.exception("The watcher of %s failed", self._cluster)
                self._fail(self._current(), AirflowRayError(f"{type(error).__name__}: {error}"))

    def _watch(self) -> None:
        with open_persistently(self._settings, self._stopped) as session:
            _stop_at_exit()
            # The owner takes for told what it has told over the connection before, and that may have been lost.
            self._id = uuid.uuid4().hex
            self._due = None
            self.session = session
            try:
                while waiting := self._waiting():
                    self._ask(session, waiting)
                self._end_call(session)
                return
            except RayConnectionError as error:
                if not is_passing(error):
                    raise
                log.warning("%s Connecting again.", sentence_of(error))
            finally:
                self.session = None
        # It may break at once each time.
        self._stopped.wait(FIRST_PAUSE_SECONDS)

    def _ask(self, session: Session, waiting: list[Subscription]) -> None:
        started = time.monotonic()
        waiting = [each for each in waiting if not each.is_busy]
        if not waiting:
            self._wake.wait(CONFIRM_SECONDS)
            return
        interval = min(each.poll_interval for each in waiting)
        # Who comes while a call is under way does not let the others wait for longer.
        self._due = min(started + interval, self._due or math.inf)
        wanted, seconds = [each.wanted for each in waiting], max(0.0, self._due - started)
        # The owner ends the call before as soon as it knows of this one, even before this one is known here.
        self._call = None
        call = self._call = session.begin("watch", self._id, wanted, seconds)
        call.add_done_callback(self._on_answer)
        # Until the answer is there, or somebody more wants to be part of the question.
        self._wake.wait()
        if call.done():
            self._due = None
            answers = call.result() or []
            # Not that of an earlier release, nor where the owners of two are asked.
            for more in answers[len(waiting) :]:
                tell_totals(self._cluster, more["totals"])
            for subscription, news in zip(waiting, answers, strict=False):
                if news is not None:
                    self._deliver(subscription, news)
            self._await_confirmations(waiting)
        time.sleep(max(0.0, started + MIN_SECONDS_BETWEEN_CALLS - time.monotonic()))

    def _await_confirmations(self, asked: list[Subscription]) -> None:
        deadline = time.monotonic() + CONFIRM_SECONDS
        while not self._stopped.is_set() and time.monotonic() < deadline:
            self._wake.clear()
            if not any(each.is_busy for each in asked):
                return
            self._wake.wait(max(0.0, deadline - time.monotonic()))

    def _on_answer(self, call: Future[Any]) -> None:
        # A call in whose place a newer one has come tells nothing.
        if call is self._call:
            self._wake.set()

    def _end_call(self, session: Session) -> None:
        """Let the owner end the call that is under way: Ray cannot be shut down under one."""
        if self._call is not None and not self._call.done():
            session.call("watch", self._id, [], 0.0)
            self._call.result(STOP_SECONDS)

    def _deliver(self, subscription: Subscription, news: dict[str, Any]) -> None:
        if "error" in news or news["ended"]:
            with _lock:
                self._subscriptions.discard(subscription)
        else:
            subscription.is_busy = subscription.follows
        try:
            subscription.deliver(subscription, news)
        # The event loop of whoever waited is closed.
        except RuntimeError:
            log.debug("Nobody waits for %s any more", subscription.uri)

    def _waiting(self) -> list[Subscription]:
        """Return who waits, or after a while without anybody an empty list: then this thread ends."""
        waiting = self._current(clear=True)
        if self._stopped.is_set():
            return []
        if waiting:
            return waiting
        if _watchers.get(self._cluster) is self:
            self._wake.wait(LINGER_SECONDS)
        with _lock:
            if not self._subscriptions and _watchers.get(self._cluster) is self:
                del _watchers[self._cluster]
        return self._current(clear=True)

    def _current(self, clear: bool = False) -> list[Subscription]:
        """Return who waits.

        :param clear: whether this thread knows of all of them from now on. It is noted in the same step, so that nobody
            comes in between.
        """
        with _lock:
            if clear:
                self._wake.clear()
            return list(self._subscriptions)

    def _fail(self, subscriptions: list[Subscription], error: AirflowRayError) -> None:
        for each in subscriptions:
            self._deliver(each, {"error": error})
