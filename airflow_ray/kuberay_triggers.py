"""The trigger that waits for a Ray cluster on Kubernetes in Airflow's triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_ray.client.base_trigger import KILL_SECONDS, RayTrigger
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.failure_details import why_not_done
from airflow_ray.client.kuberay.telling import NOT_DELETED, WAITING
from airflow_ray.exceptions import AirflowRayError
from airflow_ray.triggers import ENDED, ERROR

if TYPE_CHECKING:
    from airflow_ray.client.kuberay.clusters import Clusters
    from airflow_ray.client.kuberay.waiting import Goal


class RayClusterTrigger(RayTrigger):
    """Waits until a Ray cluster on Kubernetes can run work, or is gone.

    The event's payload is a dict: ``status`` is ``ended``, or ``error`` with ``type`` and ``message``; ``text`` is what
    the cluster has; ``uid`` and ``resume`` are what was given here.

    :param kubernetes_conn_id: Airflow connection of type ``kubernetes``.
    :param namespace: of the cluster.
    :param name: of the cluster.
    :param uid: tells it from others that have had, or will have, its name.
    :param goal: ``ready`` to run work, or ``gone`` with all its pods.
    :param deadline: when to give up, in seconds since 1970.
    :param poll_interval: seconds between two looks.
    :param delete_on_kill: whether a person who ends the task ends the cluster.
    :param resume: plain data for the task that goes on, and ``settle_seconds`` as for
        :class:`~airflow_ray.triggers.RayObjectTrigger`.
    """

    # Work has ended when its task goes on, but a cluster is in use then.
    _leaves_in = frozenset({"deferred", "scheduled", "queued", "running", "success"})

    def __init__(
        self,
        kubernetes_conn_id: str,
        namespace: str,
        name: str,
        uid: str,
        goal: Goal,
        deadline: float,
        poll_interval: float = 5.0,
        delete_on_kill: bool = False,
        resume: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kubernetes_conn_id = kubernetes_conn_id
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.goal: Goal = goal
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.delete_on_kill = delete_on_kill
        self.resume = resume

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments, as Airflow keeps them."""
        of_cluster = "kubernetes_conn_id", "namespace", "name", "uid"
        names = *of_cluster, "goal", "deadline", "poll_interval", "delete_on_kill", "resume"
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    @property
    def ends_on_kill(self) -> bool:
        """Whether the cluster is one that the task makes."""
        return self.delete_on_kill

    async def event(self) -> dict[str, Any]:
        """Return the payload of the one event."""
        try:
            event = {"status": ENDED, "text": await self._waited()}
        # Whatever it is: a task whose trigger fails is not resumed, and would leave what it has made.
        except Exception as error:
            if not isinstance(error, AirflowRayError):
                self.log.exception("Waiting for the Ray cluster %s has failed", self.name)
            event = {"status": ERROR, "type": type(error).__name__, "message": str(error)}
        return {**event, "uid": self.uid}

    async def end(self) -> None:
        """Delete the cluster that the task makes."""
        from airflow_ray.client.kuberay.origin import Made

        self.log.info("Deleting the Ray cluster %s", self.name)
        made = Made.of_resume(self.resume or {}) or Made(self.name, self.uid)
        try:
            clusters = await asyncio.wait_for(self._clusters(), KILL_SECONDS)
            await in_own_thread(clusters.withdraw, made, KILL_SECONDS)
        # Nobody else tells of it.
        except Exception as error:
            self.log.warning(NOT_DELETED, self.name, why_not_done(error, KILL_SECONDS))

    async def _waited(self) -> str:
        from airflow_ray.client.kuberay.waiting import ClusterWait

        wait = ClusterWait(await self._clusters(), self.name, self.uid, self.goal, self.deadline)
        return await wait.run(self.poll_interval, lambda text: self.log.info(WAITING, self.name, text))

    async def _clusters(self) -> Clusters:
        from airflow_ray.client.kuberay.clusters import Clusters

        # Airflow tells connections only to threads of this kind.
        return await sync_to_async(Clusters.of)(self.kubernetes_conn_id, self.namespace)
