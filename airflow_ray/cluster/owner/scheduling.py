"""Whether the cluster can ever run what was asked of it."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.nodes import autoscaler_may_add, fits, plain, resources_by_node
from airflow_ray.cluster.protocol import FailureKind

FIRST_CHECK_SECONDS = 2.0
CHECK_SECONDS = 5.0
VIEW_SECONDS = 1.0


class Verdict(NamedTuple):
    """What a pending piece of work waits for, or why it will never run, as plain data."""

    detail: str | None = None
    error: dict[str, Any] | None = None


def requested_resources(options: dict[str, Any]) -> dict[str, float]:
    """Return what ``options`` ask of one node, under the names that Ray gives its resources."""
    asked = {
        "CPU": options.get("num_cpus"),
        "GPU": options.get("num_gpus"),
        "memory": options.get("memory"),
        **(options.get("resources") or {}),
    }
    if accelerator := options.get("accelerator_type"):
        asked[f"accelerator_type:{accelerator}"] = 0.001
    return {name: amount for name, amount in asked.items() if amount}


class ClusterView:
    """What the nodes have and what of it is free, asked for once for all that check within a second.

    Thousands of requests may be pending at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken_at = float("-inf")
        self._nodes: list[dict[str, float]] = []
        self._free: dict[str, float] = {}

    def take(self) -> tuple[list[dict[str, float]], dict[str, float]]:
        """Return the resources of each node, and those that are free in the cluster."""
        import ray

        with self._lock:
            if time.monotonic() > self._taken_at + VIEW_SECONDS:
                self._nodes, self._free = resources_by_node(), plain(ray.available_resources())
                self._taken_at = time.monotonic()
            return self._nodes, self._free


class Scheduling:
    """Judges one pending request from time to time.

    :param options: what ``RemoteFunction.options`` got.
    :param timeout: seconds that the request may stay pending; None for no limit.
    :param view: of the cluster that it is pending in.
    """

    def __init__(self, options: dict[str, Any], timeout: float | None, view: ClusterView) -> None:
        self._asked = requested_resources(options)
        self._timeout = timeout
        self._view = view
        self._started = time.monotonic()
        self._checked = False

    def next_check_seconds(self) -> float:
        """Return how long to wait before the next check."""
        wait = CHECK_SECONDS if self._checked else FIRST_CHECK_SECONDS
        if self._timeout is not None:
            wait = min(wait, self._started + self._timeout - time.monotonic())
        return max(0.0, wait)

    def check(self) -> Verdict:
        """Return what the request waits for, or the error where waiting longer is of no use."""
        self._checked = True
        waited = time.monotonic() - self._started
        is_late = self._timeout is not None and waited >= self._timeout
        try:
            nodes, free = self._view.take()
        # A head that is busy or being replaced makes Ray raise whatever it likes; the time to wait goes on.
        except Exception as error:
            if is_late:
                return Verdict(error=self._failure(FailureKind.SCHEDULING_TIMEOUT, []))
            return Verdict(f"asked for {self._asked}; Ray does not say what the cluster has: {error}")
        if is_late:
            return Verdict(error=self._failure(FailureKind.SCHEDULING_TIMEOUT, nodes))
        if any(fits(self._asked, node) for node in nodes):
            return Verdict(f"asked for {self._asked}, free in the cluster: {free}")
        if self._timeout is None and not autoscaler_may_add(self._asked):
            return Verdict(error=self._failure(FailureKind.INFEASIBLE, nodes))
        return Verdict(f"asked for {self._asked}, which no node has yet")

    def _failure(self, kind: FailureKind, nodes: list[dict[str, float]]) -> dict[str, Any]:
        return failure(kind, seconds=self._timeout, asked=self._asked, nodes=[plain(node) for node in nodes])
