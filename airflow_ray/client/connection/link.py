"""The link to the cluster that an Airflow connection names, whatever the way in."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.connection.clusters import cluster_of, settings_at
from airflow_ray.client.connection.opening import call_from_aside, open_persistently, open_session
from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.retrying import is_passing
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.connection.threads import await_result
from airflow_ray.client.forks import cached_property
from airflow_ray.client.run_cluster import DAG, RUN
from airflow_ray.exceptions import RayConnectionError, RayOwnerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.client.connection.threads import T
    from airflow_ray.object_uri import ObjectURI


# What becomes of the work, which nobody knows while the cluster does not answer.
_AFTER = (
    "If the head is lost, so are its work and its objects, and the next try of the task starts anew; otherwise the "
    "work goes on, and so does the next try with it."
)


log = logging.getLogger(__name__)


class Link:
    """Calls the owner and moves values over a connection that it opens when it is needed, and again when it breaks.

    It belongs to the thread that uses it; only :meth:`call_from_aside` may be called by another one.

    :param conn_id: Airflow connection of type ``ray``.
    :param dag_id: DAG of the cluster, where the connection leads to one for each DAG, or for each run.
    :param run_id: run of the cluster, likewise.
    """

    def __init__(self, conn_id: str, dag_id: str | None = None, run_id: str | None = None) -> None:
        self.conn_id = conn_id
        self._dag_id = dag_id
        self._run_id = run_id
        self._session: Session | None = None
        self._connection = ExitStack()
        #: Keeps a connection until it is closed itself; None for one that ends when nobody needs it.
        self.holder: ExitStack | None = None

    @cached_property
    def connection(self) -> RaySettings:
        """What the connection says, as it is written.

        :raises RayConfigurationError: a field of the connection is wrong.
        """
        return settings_of(BaseHook.get_connection(self.conn_id))

    @cached_property
    def settings(self) -> RaySettings:
        """What the connection says of the one cluster that this leads to.

        :raises RayConfigurationError: a field of the connection is wrong.
        :raises RayClusterNotNamedError: it leads to several, and it was not said to which.
        """
        return settings_at(self.connection, self._dag_id, self._run_id)

    @property
    def is_of_one_cluster(self) -> bool:
        """Whether it is known which cluster this leads to."""
        return self.is_told(self._dag_id, self._run_id)

    def is_told(self, dag_id: str | None, run_id: str | None) -> bool:
        """Whether these ids, as far as they are known, tell one cluster."""
        host = self.connection.host or ""
        return (RUN not in host or None not in (dag_id, run_id)) and (DAG not in host or dag_id is not None)

    def at(self, dag_id: str | None, run_id: str | None) -> Link:
        """Return a link to the cluster of a DAG run, which is not connected; this one where that leads there."""
        cluster = cluster_of(self.connection, dag_id, run_id)
        if cluster == cluster_of(self.connection, self._dag_id, self._run_id):
            return self
        # Of the same kind, and with what the connection says.
        link = copy.copy(self)
        link.__dict__.pop("settings", None)
        link._dag_id, link._run_id = dag_id, run_id
        link._session, link._connection, link.holder = None, ExitStack(), None
        return link

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
        elif self.holder is not None:
            self.holder.enter_context(self._connected(seconds))
            yield
        else:
            with self._connected(seconds):
                yield

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[None]:
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
        log.warning("%s Connecting again.", sentence_of(broken))
        settings = self._settings_within(seconds)
        try:
            self._open_anew(settings)
        except RayConnectionError as error:
            raise type(error)(
                f"{sentence_of(broken)} None came in its place within {settings.connect_timeout:.3g} seconds. "
                f"{sentence_of(error)} {_AFTER}"
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
        """Call a method of the owner, as :meth:`through_breaks` does, and return its answer.

        :param method: what does no harm when it is called twice.
        :raises RayConnectionError: there is no connection, or it broke again.
        :raises RayOwnerDiedError: the owner has died, and so has the next one.
        """
        with self.connect():
            return self.through_breaks(lambda: self.call_same(method, *args, **kwargs))

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
