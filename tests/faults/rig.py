"""A cluster, a storage and a way in, whose processes can be killed or stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from airflow_ray.cluster.gateway.files import noted_process
from airflow_ray.cluster.gateway.settings import GatewaySettings
from tests.checkpointing import Cluster, connection_of
from tests.faults.cases import AWAY
from tests.faults.chain import Chain, Outcome
from tests.faults.task import CONN_ID, expected
from tests.proxy import FaultyProxy
from tools.ray_cluster import RayNode
from tools.s3_server import S3Server

BUCKET = "checkpoints"
CONNECT_SECONDS = "300"
# For what has to be there, such as a process that another one starts.
THERE_SECONDS = 300.0
# Where `make faults` collects what the tests have measured.
RESULTS = "FAULTS_RESULTS"


class Rig:
    """What the chains of a file of tests share.

    What nobody else starts again after a fault, it does, as whoever looks after such a process.
    """

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.s3 = S3Server()
        self.s3.client().create_bucket(Bucket=BUCKET)
        self.proxy = FaultyProxy(self.s3.port)
        self.node: RayNode | None = None
        self._stood_still: list[RayNode] = []
        self._is_used = False
        self._without_fault: dict[str, dict[str, float]] = {}

    def close(self) -> None:
        self.lose_node()
        self.cluster.head.stop()
        self.proxy.close()
        self.s3.stop()

    def connections(self, way: str) -> dict[str, str]:
        """Return the environment variables of Airflow's connections to the cluster and to the storage."""
        extra = {"checkpoint_path": f"s3://{BUCKET}/{way}", "checkpoint_conn_id": "s3"}
        ray = json.loads(connection_of(self.cluster.head, way, **extra))
        ray["extra"]["connect_timeout"] = CONNECT_SECONDS
        return {
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(ray),
            "AIRFLOW_CONN_S3": self.s3.connection(endpoint_url=self.proxy.endpoint),
        }

    def seconds_without_fault(self, way: str, moment: str, folder: Path, connections: dict[str, str]) -> float:
        """Return what a chain takes from a moment to its end where nothing happens."""
        if way not in self._without_fault:
            chain = Chain(folder, connections, checkpoint=True)
            outcome = chain.run(None, lambda: None)
            assert outcome.returned == expected(), outcome.log
            self._without_fault[way] = chain.seconds_after(outcome)
        return self._without_fault[way][moment]

    def renew(self) -> None:
        """Begin with a fresh head: of one fault after another its parts take notice, as by longer pauses."""
        if self._is_used:
            self.lose_node()
            self.cluster.lose()
        self._is_used = True

    # Who may be hit

    def victims(self, name: str, chain: Chain) -> list[psutil.Process]:
        """Return the processes that a name stands for, as soon as there is one."""
        deadline = time.monotonic() + THERE_SECONDS
        while not (found := self._found(name, chain)):
            assert time.monotonic() < deadline, f"There is no {name}"
            time.sleep(0.05)
        return found

    def _found(self, name: str, chain: Chain) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess, ValueError, OSError):
            return list(_VICTIMS[name](self, chain))
        return []

    def gateway(self) -> list[psutil.Process]:
        noted = noted_process(GatewaySettings(str(Path(self.cluster.head.temp_dir, "gateway"))))
        return [psutil.Process(noted.pid)] if noted is not None else []

    def keeper_driver(self) -> list[psutil.Process]:
        # Both are started with the same words.
        return [each for each in self.of_head("import pickle, sys") if each not in self.gateway()]

    def of_head(self, text: str) -> list[psutil.Process]:
        return self.cluster.head.processes(text)

    def whole_head(self) -> list[psutil.Process]:
        return [psutil.Process(self.cluster.head.process.pid), *self.of_head("")]

    def of_node(self) -> list[psutil.Process]:
        if self.node is None:
            return []
        parent = psutil.Process(self.node.process.pid)
        return [parent, *parent.children(recursive=True)]

    def add_node(self) -> None:
        self.node = self.cluster.head.add_node(num_cpus=2, **AWAY)

    def lose_node(self) -> None:
        for node in (self.node, *self._stood_still):
            if node is not None:
                with suppress(psutil.NoSuchProcess):
                    node.kill()
        self.node = None
        self._stood_still.clear()

    # What happens to them

    def kill(self, name: str, chain: Chain) -> None:
        """End them at once, and start again what nobody else starts."""
        victims = self.victims(name, chain)
        if name == "head":
            self.cluster.lose()
            return
        for each in victims:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        # What is started again now takes longer than storage that stands still is waited for.
        self.proxy.network.set()
        if name == "s3":
            self.s3.stop()
            self.s3 = S3Server(self.s3.port)
            self.s3.client().create_bucket(Bucket=BUCKET)
        elif name == "client_proxy":
            # Ray ends a head that has lost one of its parts.
            self.cluster.head.process.wait(THERE_SECONDS)
            self.cluster.lose()
        elif name == "keeper_actor":
            port_and_token = self.cluster.head.gateway
            assert port_and_token is not None
            self.cluster.head.start_gateway(*port_and_token)
        elif name == "node":
            self.lose_node()
            self.add_node()

    def stop(self, name: str, chain: Chain, seconds: float, moment: str) -> None:
        """Stop them for a while; the work goes on meanwhile as far as it can."""
        victims = self.victims(name, chain)
        for each in victims:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGSTOP)
        if name == "node" and self.node is not None:
            self._stood_still.append(self.node)
            self.add_node()
        try:
            chain.open(moment)
            self.proxy.network.set()
            time.sleep(seconds)
        finally:
            for each in reversed(victims):
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGCONT)


_VICTIMS: dict[str, Callable[[Rig, Chain], list[psutil.Process]]] = {
    "task": lambda _, chain: [psutil.Process(chain.process.pid)] if chain.process else [],
    "gateway": lambda rig, _: rig.gateway(),
    "client_server": lambda rig, _: rig.of_head("--mode=specific-server"),
    "client_proxy": lambda rig, _: rig.of_head("--mode=proxy"),
    "owner": lambda rig, _: rig.of_head("ray::Owner"),
    "keeper": lambda rig, _: rig.keeper_driver(),
    "keeper_actor": lambda rig, _: rig.of_head("ray::Keeper"),
    "worker": lambda _, chain: [psutil.Process((chain.pids("use") or chain.pids("make"))[-1])],
    "child": lambda _, chain: [psutil.Process(int(Path(chain.folder, "child").read_text()))],
    "node": lambda rig, _: rig.of_node(),
    "head": lambda rig, _: rig.whole_head(),
    "s3": lambda rig, _: [psutil.Process(rig.s3.process.pid)],
}


def run_with_fault(
    rig: Rig, way: str, moment: str, strike: Callable[[Chain], None], folder: Path, **options: Any
) -> tuple[Outcome, float]:
    """Run a chain with a fault at a moment; return what came of it, and the seconds that the fault has cost.

    These are compared with a chain without a fault where somebody collects them.
    """
    connections = rig.connections(way)
    is_compared = RESULTS in os.environ
    usual = rig.seconds_without_fault(way, moment, folder / "without", connections) if is_compared else 0.0
    chain = Chain(folder / "with", connections, **options)

    def strike_once() -> None:
        strike(chain)
        rig.proxy.network.set()

    try:
        outcome = chain.run(moment, strike_once, _is_being_written(rig, chain) if moment == "checkpoint" else None)
        assert chain.left_running() == []
    finally:
        rig.proxy.network.set()
    return outcome, max(0.0, outcome.ended - outcome.struck - usual)


def _is_being_written(rig: Rig, chain: Chain) -> Callable[[], bool]:
    """Return what lets the callable end, and says whether its checkpoint has begun: no byte of it gets through."""
    before: list[int] = []

    def is_there() -> bool:
        if not Path(chain.folder, "call.ready").exists():
            return False
        if not before:
            before.append(len(rig.proxy.requests))
            rig.proxy.reached.clear()
            rig.proxy.network.clear()
            chain.open("call")
        return rig.proxy.reached.is_set() or len(rig.proxy.requests) > before[0]

    return is_there
