"""A client of one cluster, of a connection that may lead to several."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from airflow_ray.client.checkpoints import Targets
from airflow_ray.client.connection.link import Link
from airflow_ray.exceptions import RayConnectionError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.connection.clusters import Cluster
    from airflow_ray.client.connection.settings import RaySettings

Self = TypeVar("Self", bound="OfCluster")
T = TypeVar("T")

log = logging.getLogger(__name__)


class OfCluster:
    """Leads to one cluster, and from there to the others of the same connection.

    Of a connection that leads to a cluster for each DAG run, or for each DAG, one that was not told which leads only to
    the others, by :meth:`at` and :meth:`of`.

    :param conn_id: Airflow connection of type ``ray``.
    :param dag_id: DAG of the cluster, where each has one of its own, or each of its runs.
    :param run_id: run of the cluster, likewise.
    :param link: to that cluster, where it is another one than is made here.
    """

    def __init__(
        self, conn_id: str, dag_id: str | None = None, run_id: str | None = None, link: Link | None = None
    ) -> None:
        self.conn_id = conn_id
        self.link = link or Link(conn_id, dag_id, run_id)
        self.targets = Targets(self.link)
        self._others: dict[Cluster, OfCluster] = {}
        self._held: ExitStack | None = None

    @property
    def settings(self) -> RaySettings:
        """What the connection says."""
        return self.link.settings

    @contextmanager
    def connect(self: Self) -> Iterator[Self]:
        """Hold one connection for as long as the context lasts; or where it may be several, those that come to be."""
        if self.link.is_of_one_cluster:
            with self.link.connect():
                yield self
            return
        with ExitStack() as held:
            outer, self._held = self._held, held
            try:
                yield self
            finally:
                self._held = outer

    def of(self: Self, uri: ObjectURI | str) -> Self:
        """Return the client of the cluster that an object belongs to."""
        parsed = ObjectURI.parse(uri)
        return self.at(parsed.dag_id, parsed.run_id)

    def each(self: Self, dag_id: str | None, run_id: str | None) -> list[Self]:
        """Return the clients of all clusters that hold something of a DAG or a run; None stands for any.

        Where the connection leads to several, Kubernetes tells which there are.

        :raises RayClusterNotNamedError: it leads to several, and nobody tells which.
        """
        if self.link.is_told(dag_id, run_id):
            return [self.at(dag_id, run_id)]
        runs = self.link.connection.runs()
        if runs is None:
            # Which says what to name.
            return [self.at(dag_id, run_id)]
        of_dag = [run for run in runs if dag_id in (None, run[0])]
        # The same one may have been made for several runs.
        return list(dict.fromkeys(self.at(*run) for run in of_dag if self.link.is_told(*run)))

    def ask_each(
        self: Self,
        dag_id: str | None,
        run_id: str | None,
        question: Callable[[Self], T],
        tell: Callable[[str], object] = log.warning,
    ) -> dict[Self, T]:
        """Return what all clusters answer that hold something of a DAG or a run, by their clients.

        :param tell: is told of a cluster that cannot be reached, where there are others: it is left out.
        :raises RayConnectionError: the only one cannot be reached.
        """
        clients, answers = self.each(dag_id, run_id), {}
        for client in clients:
            try:
                answers[client] = question(client)
            except RayConnectionError as error:
                if self.link.is_told(dag_id, run_id):
                    raise
                tell(f"Left out: {error}")
        return answers

    def at(self: Self, dag_id: str | None, run_id: str | None) -> Self:
        """Return the client of the cluster of a DAG run: this one, unless the connection leads to several."""
        link = self.link.at(dag_id, run_id)
        if link is self.link:
            return self
        other = self._others.setdefault(link.settings.cluster, type(self)(self.conn_id, link=link))
        other.link.holder = self._held
        return other  # type: ignore[return-value]  # of the same class
