"""The node of the double: it runs the pods of Ray clusters, the heads among them as real Ray heads if it is told to."""

from __future__ import annotations

import base64
import json
import math
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.errors import ApiError
from tests.kubernetes.network import PodNetwork
from tests.kubernetes.store import EVENTS, PODS, SECRETS, Object, Write, now
from tests.ray_head import ENVIRONMENT
from tools.ray_cluster import RayHead

CONTROL_PORT, CLIENT_PORT, DASHBOARD_PORT = 6379, 10001, 8265
OBJECT_STORE_BYTES = 150_000_000
# In which a container that crashes runs, and in which it is dead before it waits to run again.
ALIVE_SECONDS, DEAD_SECONDS = 0.2, 0.2
RUNS_NOTHING = "127.0.0.1"


class Trouble(Enum):
    """What keeps a pod from running."""

    UNSCHEDULABLE = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available"
    NO_IMAGE = "Back-off pulling image"
    CRASH = "back-off 10s restarting failed container"


@dataclass
class Fate:
    """What becomes of the pods of a cluster.

    :param trouble: of the head's pod.
    :param of_workers: of the pods of workers.
    :param log: what a head writes that crashes.
    :param exit_code: of a head that crashes.
    :param period: seconds from one crash to the next.
    """

    trouble: Trouble | None = None
    of_workers: Trouble | None = None
    log: str = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'ray.dashboard'\n"
    exit_code: int = 1
    period: float = 0.8


@dataclass
class Running:
    """What runs of a pod."""

    begun: float = field(default_factory=time.monotonic)
    turns: int = 0
    restarts: int = 0
    ended: dict[str, Any] = field(default_factory=dict)
    network: PodNetwork | None = None
    starting: Future[RayHead] | None = None
    stopping: Future[None] | None = None

    @property
    def head(self) -> RayHead | None:
        if self.starting is not None and self.starting.done() and self.starting.exception() is None:
            return self.starting.result()
        return None


class Kubelet:
    """Runs the pods of the double; its owner calls :meth:`look` again and again.

    :param real_heads: Whether the pods of heads run Ray. Each has a network of its own then.
    """

    def __init__(self, api: ApiServer, real_heads: bool) -> None:
        self._api = api
        self._real_heads = real_heads
        #: By the name of the cluster.
        self.fates: dict[str, Fate] = {}
        #: Of all others.
        self.fate = Fate()
        self._running: dict[str, Running] = {}
        self._threads = ThreadPoolExecutor(8, "kubelet")
        api.store.graceful.add(PODS)

    def look(self) -> None:
        """Do for each pod what is next, and note its status."""
        for pod in self._api.store.list(PODS):
            if "ray.io/cluster" in pod["metadata"].get("labels", {}):
                with suppress(ApiError):
                    self._look_at(pod, self._running.setdefault(pod["metadata"]["uid"], Running()))

    def heads(self) -> list[RayHead]:
        """Return the heads whose processes are there."""
        found = [running.head for running in self._running.values()]
        return [head for head in found if head is not None and head.process.poll() is None]

    def close(self) -> None:
        """End what runs."""
        for running in self._running.values():
            self._stop(running)
        self._threads.shutdown()

    def event(self, about: Object, reason: str, message: str, kind: str = "Warning") -> None:
        """Tell of an object what has happened to it, once."""
        meta = about["metadata"]
        fields = ("kind", "apiVersion")
        involved = {**{key: about[key] for key in fields}, **{key: meta[key] for key in ("name", "namespace", "uid")}}
        told = {"involvedObject": involved, "reason": reason, "message": message, "type": kind, "count": 1}
        told |= {"firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "kubelet"}}
        name = f"{meta['name']}.{reason.lower()}"
        with suppress(ApiError):
            self._api.store.create(EVENTS, meta["namespace"], {"metadata": {"name": name}, **told}, Write("kubelet"))

    def _look_at(self, pod: Object, running: Running) -> None:
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            if running.stopping is None:
                running.stopping = self._threads.submit(self._stop, running)
            elif running.stopping.done():
                del self._running[meta["uid"]]
                self._api.store.delete(PODS, meta["namespace"], meta["name"], grace=0)
            return
        running.turns += 1
        status = self._status(pod, running)
        self._api.store.set_status(PODS, meta["namespace"], meta["name"], status, "kubelet")

    def _status(self, pod: Object, running: Running) -> Object:
        labels = pod["metadata"]["labels"]
        fate = self.fates.get(labels["ray.io/cluster"], self.fate)
        is_head = labels["ray.io/node-type"] == "head"
        trouble = fate.trouble if is_head else fate.of_workers
        since = pod["metadata"]["creationTimestamp"]
        if trouble is Trouble.UNSCHEDULABLE:
            self.event(pod, "FailedScheduling", trouble.value)
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": trouble.value}
            return {"phase": "Pending", "conditions": [{**condition, "lastTransitionTime": since}]}
        if trouble is Trouble.NO_IMAGE:
            return self._without_image(pod, running)
        if (missing := self._missing(pod)) is not None:
            self.event(pod, "Failed", f"Error: {missing}")
            return _pending(pod, "CreateContainerConfigError", missing)
        if trouble is Trouble.CRASH:
            return self._crashing(pod, running, fate)
        if not is_head or not self._real_heads:
            return _running(pod, RUNS_NOTHING, {"state": {"running": {}}, "restartCount": 0, "ready": True})
        return self._of_head(pod, running)

    def _without_image(self, pod: Object, running: Running) -> Object:
        image = _container(pod).get("image")
        pulled = f'Failed to pull image "{image}": rpc error: code = NotFound desc = failed to pull and unpack image'
        self.event(pod, "Failed", pulled)
        if running.turns < 3:
            return _pending(pod, "ErrImagePull", pulled)
        return _pending(pod, "ImagePullBackOff", f'{Trouble.NO_IMAGE.value} "{image}"')

    def _crashing(self, pod: Object, running: Running, fate: Fate) -> Object:
        """Return the status of a container that runs, dies, and waits to run again."""
        meta, container = pod["metadata"], _container(pod)["name"]
        key = meta["namespace"], meta["name"], container
        number, seconds = divmod(time.monotonic() - running.begun, fate.period)
        self._api.logs[key] = fate.log
        before = _ended(meta["uid"], int(number) - 1, fate.exit_code) if number else {}
        if seconds < ALIVE_SECONDS:
            told = {"state": {"running": {}}, "lastState": before}
            return _running(pod, RUNS_NOTHING, {**told, "restartCount": int(number)})
        ended = _ended(meta["uid"], int(number), fate.exit_code)
        if seconds < ALIVE_SECONDS + DEAD_SECONDS:
            return _running(pod, RUNS_NOTHING, {"state": ended, "lastState": before, "restartCount": int(number)})
        self._api.previous_logs[key] = fate.log
        message = f"{Trouble.CRASH.value}={container} pod={meta['name']}_{meta['namespace']}({meta['uid']})"
        self.event(pod, "BackOff", message)
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        return _running(pod, RUNS_NOTHING, {"state": waiting, "lastState": ended, "restartCount": int(number)})

    def _of_head(self, pod: Object, running: Running) -> Object:
        if running.network is None:
            running.network = PodNetwork()
        if running.starting is None:
            running.starting = self._threads.submit(self._start, pod, running.network)
        runs = {"state": {"running": {}}, "lastState": running.ended, "restartCount": running.restarts}
        if not running.starting.done():
            return _running(pod, running.network.address, runs)
        if running.head is not None and running.head.process.poll() is None:
            return _running(pod, running.network.address, {**runs, "ready": True})
        told = str(running.starting.exception()) if running.head is None else running.head.log.read_text()
        self._end(running)
        running.restarts += 1
        running.starting = None
        running.ended = _ended(pod["metadata"]["uid"], running.restarts, 137)
        key = pod["metadata"]["namespace"], pod["metadata"]["name"], _container(pod)["name"]
        self._api.previous_logs[key] = told
        return _running(pod, running.network.address, {"state": running.ended, "restartCount": running.restarts})

    def _start(self, pod: Object, network: PodNetwork) -> RayHead:
        spec = _container(pod)
        parameters = json.loads(pod["metadata"].get("annotations", {}).get("ray.io/start-params", "{}"))
        # A job calls python.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        head = RayHead(
            (CONTROL_PORT, CLIENT_PORT),
            num_cpus=_cpus(parameters, spec),
            environment={"PATH": path, **ENVIRONMENT, **self._environment(pod)},
            object_store_bytes=OBJECT_STORE_BYTES,
            dashboard_port=DASHBOARD_PORT,
            address=network.address,
            prefix=network.prefix,
        )
        while not head.is_healthy() and head.process.poll() is None:
            time.sleep(0.1)
        return head

    def _environment(self, pod: Object) -> dict[str, str]:
        return {each["name"]: self._value(pod, each) for each in _container(pod).get("env", [])}

    def _value(self, pod: Object, variable: dict[str, Any]) -> str:
        source = variable.get("valueFrom", {})
        namespace = pod["metadata"]["namespace"]
        if reference := source.get("secretKeyRef"):
            secret = self._api.store.get(SECRETS, namespace, reference["name"])
            return base64.b64decode(secret["data"][reference["key"]]).decode()
        return str(variable.get("value", ""))

    def _missing(self, pod: Object) -> str | None:
        """Return what keeps a container from being created."""
        try:
            self._environment(pod)
        except ApiError as error:
            return str(error)
        except KeyError as error:
            return f"couldn't find key {error.args[0]} in Secret"
        return None

    def _stop(self, running: Running) -> None:
        self._end(running)
        if running.network is not None:
            running.network.close()

    def _end(self, running: Running) -> None:
        """End the head, or what one that has died has left."""
        if running.starting is not None:
            with suppress(Exception):
                running.starting.result().stop()


def _ended(uid: str, number: int, exit_code: int) -> dict[str, Any]:
    """Return the state of a container that has died, as the so manieth of its pod."""
    return {"terminated": {"exitCode": exit_code, "reason": "Error", "containerID": f"containerd://{uid}-{number}"}}


def _container(pod: Object) -> dict[str, Any]:
    """Return the one in which Ray runs, which is the first."""
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def _pending(pod: Object, reason: str, message: str) -> Object:
    waiting = {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0}
    return {**_running(pod, "", waiting), "phase": "Pending"}


def _running(pod: Object, address: str, container: dict[str, Any]) -> Object:
    """Return the status of a pod that has a node."""
    described = {"ready": False, "lastState": {}, "image": _container(pod).get("image", ""), **container}
    others = [
        {"name": each["name"], "ready": True, "state": {"running": {}}, "lastState": {}, "restartCount": 0}
        for each in pod["spec"]["containers"][1:]
    ]
    name = _container(pod)["name"]
    ready: dict[str, Any] = {"type": "Ready", "status": "True"}
    if not described["ready"]:
        message = f"containers with unready status: [{name}]"
        ready = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": message}
    conditions = [{"type": "PodScheduled", "status": "True"}, ready]
    return {
        "phase": "Running",
        **({"podIP": address, "podIPs": [{"ip": address}]} if address else {}),
        "conditions": conditions,
        "containerStatuses": [{"name": name, **described}, *others],
    }


def _cpus(parameters: dict[str, str], container: dict[str, Any]) -> int:
    resources = container.get("resources", {})
    limit = (resources.get("limits") or {}).get("cpu") or (resources.get("requests") or {}).get("cpu") or "1"
    text = str(parameters.get("num-cpus") or limit)
    return math.ceil(int(text[:-1]) / 1000) if text.endswith("m") else math.ceil(float(text))
