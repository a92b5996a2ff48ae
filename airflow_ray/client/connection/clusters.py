"""Which of the clusters that one Airflow connection leads to."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from airflow_ray.client.run_cluster import DAG, RUN, rendered
from airflow_ray.exceptions import RayClusterGoneError

if TYPE_CHECKING:
    from airflow_ray.client.connection.settings import RaySettings

# In which a name server that was asked for the name of a cluster before that was made comes to know it.
NAME_SECONDS = 10.0
_PAUSE_SECONDS = 0.5


class Cluster(NamedTuple):
    """A cluster that a connection leads to: the only one, or that of a DAG, or of a DAG run.

    :param conn_id: the connection.
    :param dag_id: the DAG, where each has a cluster of its own; None where they share one.
    :param run_id: likewise.
    """

    conn_id: str
    dag_id: str | None = None
    run_id: str | None = None

    @property
    def is_shared(self) -> bool:
        """Whether the connection leads to one cluster alone."""
        return self.dag_id is None

    def __str__(self) -> str:
        if self.dag_id is None:
            return f"the Ray cluster of the connection {self.conn_id!r}"
        of_run = "" if self.run_id is None else f"run {self.run_id!r} of "
        return f"the Ray cluster of {of_run}DAG {self.dag_id!r}"


def cluster_of(settings: RaySettings, dag_id: str | None, run_id: str | None) -> Cluster:
    """Return which of the clusters of a connection is that of a DAG run.

    :param settings: of the connection, as it is written.
    """
    host = settings.host or ""
    is_of_run = RUN in host
    is_of_dag = is_of_run or DAG in host
    return Cluster(settings.conn_id, dag_id if is_of_dag else None, run_id if is_of_run else None)


def settings_at(settings: RaySettings, dag_id: str | None, run_id: str | None) -> RaySettings:
    """Return the settings of that cluster, with its name in place of what stands for it.

    :param settings: of the connection, as it is written.
    :raises RayClusterNotNamedError: there is one for each run, or for each DAG, and it is not said of which.
    :raises RayConfigurationError: there is one for each, and this Airflow has no valid Fernet key.
    """
    texts = {name: getattr(settings, name) for name in ("host", "dashboard_url")}
    names = {name: rendered(text, dag_id, run_id) for name, text in texts.items() if text}
    return settings.model_copy(update=names).of_cluster(cluster_of(settings, dag_id, run_id))


def require_known_name(host: str, cluster: Cluster, seconds: float) -> None:
    """Make sure that a name server knows the head of a cluster that comes and goes.

    :param seconds: in which it must, where that is less than it is given otherwise.
    :raises RayClusterGoneError: it does not.
    """
    deadline = time.monotonic() + min(seconds, NAME_SECONDS)
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except (socket.gaierror, UnicodeError) as error:
            # Any other failure is one of the name server, which says nothing of the cluster.
            if not isinstance(error, UnicodeError) and error.errno != socket.EAI_NONAME:
                return
            if time.monotonic() > deadline:
                raise RayClusterGoneError(
                    f"This machine's name server does not know {host}, the head of {cluster}: that cluster was "
                    "deleted, or not made yet. With it went its objects; one that has a checkpoint is read from that"
                ) from error
        time.sleep(_PAUSE_SECONDS)
