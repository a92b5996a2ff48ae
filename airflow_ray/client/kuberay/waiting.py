"""Waiting for a cluster: until it can run work, or until it is gone, telling meanwhile what it waits for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from airflow_ray.client.connection.reasons import sentence_of
from airflow_ray.client.connection.threads import in_own_thread
from airflow_ray.client.kuberay.api import AWAY_SECONDS, is_away
from airflow_ray.client.kuberay.origin import uid_of
from airflow_ray.client.kuberay.state import Look, look_at
from airflow_ray.exceptions import (
    AirflowRayError,
    RayClusterDeletedError,
    RayClusterImageError,
    RayClusterTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.kuberay.clusters import Clusters

Goal = Literal["ready", "gone"]

# A head may die once for want of something that comes a moment later.
MAX_DEATHS = 3
# A registry may be away for a moment.
IMAGE_SECONDS = 180.0


class ClusterWait:
    """Waits for one cluster.

    :param clusters: of its namespace.
    :param name: its name.
    :param uid: tells it from others that have had, or will have, its name.
    :param goal: ``ready`` to run work, or ``gone`` with all its pods.
    :param deadline: when to give up, in seconds since 1970.
    :param clock: of the time that passes.
    """

    def __init__(
        self,
        clusters: Clusters,
        name: str,
        uid: str,
        goal: Goal,
        deadline: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clusters = clusters
        self._name = name
        self._uid = uid
        self._goal = goal
        self._deadline = deadline
        self._clock = clock
        self._deaths: set[str] = set()
        self._away_since: float | None = None
        self._image_since: float | None = None
        self._lines = ""

    async def run(self, poll_interval: float, tell: Callable[[str], object]) -> str:
        """Return what the cluster has when it is as it is waited for.

        :param poll_interval: seconds between two looks.
        :param tell: gets what it waits for, whenever that has changed.
        :raises RayClusterError: it never will be, or is not in time; the subclass and the text tell why.
        """
        told = ""
        while not (look := await in_own_thread(self.look)).is_ready:
            if look.text != told:
                tell(look.text)
            told = look.text
            if self._clock() >= self._deadline:
                raise self._failure(look, f" in time: {look.text}")
            await asyncio.sleep(max(0.0, min(poll_interval, self._deadline - self._clock())))
        return look.text

    def look(self) -> Look:
        """Return what the cluster is like.

        :raises RayClusterError: it will never be as it is waited for.
        """
        now = self._clock()
        try:
            look = self._look_for_end() if self._goal == "gone" else self._look_for_start()
        except AirflowRayError as error:
            self._away_since = now if self._away_since is None else self._away_since
            if not is_away(error) or now - self._away_since > AWAY_SECONDS:
                raise
            return Look(f"{sentence_of(error)} Asking again", kind=type(error))
        self._away_since = None
        if self._is_hopeless(look, now):
            raise self._failure(look, f": {look.text}")
        return look

    def is_lost(self) -> bool:
        """Return whether a cluster that was ready is so no more; Kubernetes that is away tells nothing of that.

        :raises RayClusterError: it never will be again.
        """
        return not self.look().is_ready and self._away_since is None

    def _look_for_start(self) -> Look:
        cluster = self._clusters.look_up(self._name)
        if cluster is None or uid_of(cluster) != self._uid:
            raise RayClusterDeletedError(
                f"The Ray cluster {self._name} in the namespace {self._clusters.namespace} is not there any more: "
                "somebody has deleted it"
            )
        pods = self._clusters.pods(self._name, self._uid)
        look = look_at(cluster, pods, self._clusters.events(self._name, pods))
        if look.is_queued and (why := self._clusters.why_queued(cluster)):
            return look._replace(text=f"{look.text}: {why}")
        if look.crash is None:
            return look
        if look.crash.key not in self._deaths:
            self._deaths.add(look.crash.key)
            self._lines = self._clusters.last_lines(look.crash)
        return look._replace(text=f"{look.text}{self._lines}")

    def _look_for_end(self) -> Look:
        cluster = self._clusters.look_up(self._name)
        if cluster is not None and uid_of(cluster) == self._uid:
            finalizers = cluster["metadata"].get("finalizers")
            held = f", which {', '.join(finalizers)} has to allow" if finalizers else ""
            return Look(f"Kubernetes deletes it{held}")
        if pods := self._clusters.pods(self._name, self._uid):
            names = sorted(pod["metadata"]["name"] for pod in pods)
            return Look(f"its pods have not ended: {', '.join(names)}")
        return Look("it is gone", is_ready=True)

    def _is_hopeless(self, look: Look, now: float) -> bool:
        if look.kind is not RayClusterImageError:
            self._image_since = None
            return look.is_lasting or (look.crash is not None and len(self._deaths) >= MAX_DEATHS)
        self._image_since = now if self._image_since is None else self._image_since
        return look.is_lasting or now - self._image_since > IMAGE_SECONDS

    def _failure(self, look: Look, why: str) -> AirflowRayError:
        kind = look.kind if self._goal == "ready" else RayClusterTimeoutError
        what = "cannot run work" if self._goal == "ready" else "is not gone"
        return kind(f"The Ray cluster {self._name} in the namespace {self._clusters.namespace} {what}{why}")
