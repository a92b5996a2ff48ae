"""Whether the cluster can ever run what was asked of it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.nodes import autoscaler_may_add, fits, plain, resources_by_node
from airflow_ray.cluster.owner.environments import needs_building, setup_seconds
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.owner.environments import Building, Environments

FIRST_CHECK_SECONDS = 2.0
CHECK_SECONDS = 5.0
VIEW_SECONDS = 1.0


class Verdict(NamedTuple):
    """What a piece of work waits for, or why it waits in vain, as plain data."""

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
    :param environments: that the nodes of it are building.
    :param who_holds: returns in words who holds resources of some names, or an empty text.
    """

    def __init__(
        self,
        options: dict[str, Any],
        timeout: float | None,
        view: ClusterView,
        environments: Environments,
        who_holds: Callable[[set[str]], str],
    ) -> None:
        self._asked = requested_resources(options)
        self._runtime_env: dict[str, Any] = options.get("runtime_env") or {}
        self._environments = environments
        self._timeout = timeout
        self._view = view
        self._who_holds = who_holds
        self._started = time.monotonic()
        self._checked = False

    def next_check_seconds(self) -> float:
        """Return how long to wait before the next check."""
        wait = CHECK_SECONDS if self._checked else FIRST_CHECK_SECONDS
        if self._timeout is not None:
            wait = min(wait, self._started + self._timeout - time.monotonic())
        return max(0.0, wait)

    def is_late(self) -> bool:
        """Whether the request has been pending for as long as it may."""
        return self._timeout is not None and time.monotonic() - self._started >= self._timeout

    def check(self) -> Verdict:
        """Return what the request waits for, or the error where waiting longer is of no use."""
        self._checked = True
        is_late = self.is_late()
        try:
            nodes, free = self._view.take()
            return self._judge_late(nodes) if is_late else self._judge_early(nodes, free)
        # A head that is busy or being replaced makes Ray raise whatever it likes; the time to wait goes on.
        except Exception as error:
            if is_late:
                return Verdict(error=self._failure(FailureKind.SCHEDULING_TIMEOUT, []))
            return Verdict(f"resources: asked for {self._asked}; Ray does not say what the cluster has: {error}")

    def _judge_late(self, nodes: list[dict[str, float]]) -> Verdict:
        building = self._find_building()
        reason = f" Its runtime_env was still being built on {building.address}." if building else ""
        return Verdict(error=self._failure(FailureKind.SCHEDULING_TIMEOUT, nodes, reason))

    def _judge_early(self, nodes: list[dict[str, float]], free: dict[str, float]) -> Verdict:
        if (building := self._find_building()) is not None:
            return self._judge_building(building)
        if any(fits(self._asked, node) for node in nodes):
            if not self._asked:
                return Verdict("a process to run in")
            # Where there is enough of all, Ray is about to start a process, or no node alone has so much of it free.
            what = "a process to run in, or for room on one node" if fits(self._asked, free) else "resources"
            free = {name: free.get(name, 0) for name in self._asked}
            held = self._who_holds(set(self._asked))
            holders = f". Held by {held}: let that end, wait, ask for less, or set scheduling_timeout" if held else ""
            return Verdict(f"{what}: asked for {self._asked}, free in the cluster: {free}{holders}")
        if self._timeout is None and not autoscaler_may_add(self._asked):
            return Verdict(error=self._failure(FailureKind.INFEASIBLE, nodes))
        return Verdict(f"resources: asked for {self._asked}, which no node has yet")

    def _find_building(self) -> Building | None:
        """Return where the runtime environment is being built."""
        if needs_building(self._runtime_env):
            # Where Ray does not say, the resources are all that is known.
            with suppress(Exception):
                return self._environments.find(self._runtime_env)
        return None

    def _judge_building(self, building: Building) -> Verdict:
        words = ""
        # They only help.
        with suppress(Exception):
            words = self._environments.words(building.node_id)
        limit = setup_seconds(self._runtime_env)
        said = f". The last that was said there: {words}" if words else ""
        if limit is not None and time.monotonic() - building.since > limit:
            message = f"{building.address} had not built it within setup_timeout_seconds={limit:g} seconds{said}"
            return Verdict(error=failure(FailureKind.RUNTIME_ENV, message=message))
        bound = "" if limit is None else f", within {limit:g} seconds or the task fails"
        return Verdict(f"the runtime_env, which {building.address} is building{bound}{said}")

    def _failure(self, kind: FailureKind, nodes: list[dict[str, float]], reason: str = "") -> dict[str, Any]:
        described = [plain(node) for node in nodes]
        return failure(kind, seconds=self._timeout, asked=self._asked, nodes=described, reason=reason)
