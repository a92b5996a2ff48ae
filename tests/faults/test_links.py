"""A network that is cut, slow, or loses packets, between Airflow, the head and a node: three hosts of namespaces."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.cases import AWAY, Told
from tests.faults.chain import Chain
from tests.faults.task import expected
from tests.ray_head import ENVIRONMENT
from tools.ray_cluster import RayHead
from tools.two_hosts import GATEWAY_PORT, Host, TwoHosts, reason_against

SLOW_MEGABYTES, LOST_PERCENT = 1.0, 5
# What a cluster takes a silent node for lost after: Ray's own settings, and not the quick ones of other tests.
PATIENCE = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "5",
}
# All processes of a node, at two slow processors.
START = {"RAY_raylet_start_wait_time_s": "120"}


@dataclass(frozen=True)
class Case:
    """What becomes of a link.

    :param link: ``airflow`` or ``node``: who is at its other end; at the first is the head.
    :param fault: ``cut``, ``reset``, ``slow`` or ``lossy``.
    :param seconds: for how long it is cut, or each connection reset; the others last for the whole chain.
    :param once: whether no callable may begin twice.
    """

    link: str
    fault: str
    moment: str
    happens: str
    seconds: float = 0.0
    once: bool = True
    log: str = ""

    @property
    def id(self) -> str:
        return f"{self.link}-{self.fault}{f'-{self.seconds:g}s' if self.seconds else ''}-{self.moment}"

    @property
    def told(self) -> Told:
        ends = "Airflow and the head" if self.link == "airflow" else "the head and a node"
        what = {
            "cut": f"no packet for {self.seconds:g} s",
            "reset": f"each connection reset for {self.seconds:g} s",
            "slow": "1 MB/s",
            "lossy": "5 % of all packets lost",
        }
        return Told(f"Network between {ends}: {what[self.fault]}", self.moment, self.happens)


_GOES_ON = "The task waits, connects again where it must, and goes on; nothing runs twice."
_AGAIN = "Ray may take the process for dead, and run the work again."
_LOST = "The cluster takes the node for lost: Ray runs on another what was there."
CASES = [
    *(Case("airflow", "cut", moment, _GOES_ON, 5.0) for moment in ("submit", "call", "use")),
    *(Case("airflow", "cut", moment, _GOES_ON, 120.0, log="Connecting again") for moment in ("submit", "call", "use")),
    *(Case("airflow", "reset", moment, _GOES_ON, 5.0) for moment in ("submit", "call", "use")),
    Case("airflow", "slow", "before", "All takes longer, and nothing else happens."),
    Case("airflow", "lossy", "before", "All takes longer, and nothing else happens."),
    *(Case("node", "cut", moment, "The work goes on.", 5.0) for moment in ("call", "done")),
    *(Case("node", "cut", moment, _LOST, 120.0, once=False) for moment in ("call", "done")),
    *(Case("node", "reset", moment, _AGAIN, 5.0, once=False) for moment in ("call", "done")),
    Case("node", "slow", "before", "All takes longer, and nothing else happens."),
    Case("node", "lossy", "before", "All takes longer, and nothing else happens."),
]


# Work on the node that writes a line again and again.
LINES = 200
WRITING = f"""
import json, sys, time
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

def work():
    import time

    for number in range({LINES}):
        print("line", number, flush=True)
        time.sleep(0.05)
    return "done"

uri = ObjectURI("ray_faults", "faults", sys.argv[1], "writing")
with RayHook("ray_faults").connect() as hook:
    hook.submit(work, uri=uri, ray_options={{"resources": {AWAY}}})
    while not hook.logs(uri):
        time.sleep(0.1)
    print("writing", flush=True)
    hook.wait(uri)
    print(json.dumps([hook.get(uri), hook.logs(uri)]))
"""


class Network:
    """A head with a gateway, a node, and a host of Airflow."""

    def __init__(self, hosts: TwoHosts, node_host: Host, head: RayHead, folder: Path) -> None:
        self.hosts, self.node_host, self.head = hosts, node_host, head
        # The first that connects starts the gateway.
        self.token = secrets.token_hex(16)
        self._folder = folder
        self._seconds: dict[bool, dict[str, float]] = {}

    def environment(self, folder: Path) -> dict[str, str]:
        """Return what a process of Airflow's reaches the cluster by."""
        place = f"{self.hosts.head.address}:{GATEWAY_PORT}"
        return {
            "AIRFLOW_CONN_RAY_FAULTS": f"ray://:{self.token}@{place}?mode=gateway&connect_timeout=300",
            "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(folder / "state"),
        }

    def chain(self, folder: Path, is_on_node: bool) -> Chain:
        options = {"resources": AWAY} if is_on_node else {}
        checkpoints = {"checkpoint": True, "checkpoint_path": f"file://{self._folder}"}
        return Chain(folder, self.environment(folder), self.hosts.airflow.command(), **checkpoints, **options)

    def seconds_without_fault(self, moment: str, folder: Path, is_on_node: bool) -> float:
        if is_on_node not in self._seconds:
            chain = self.chain(folder, is_on_node)
            outcome = chain.run(None, lambda: None)
            assert outcome.returned == expected(), outcome.log
            self._seconds[is_on_node] = chain.seconds_after(outcome)
        return self._seconds[is_on_node][moment]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if reason := reason_against():
        pytest.skip(f"Hosts cannot be made: {reason}")
    with ExitStack() as stack:
        hosts = stack.enter_context(closing(TwoHosts()))
        node_host = hosts.add_host()
        head = hosts.start_ray({**ENVIRONMENT, **PATIENCE, **START})
        stack.callback(head.stop)
        yield Network(hosts, node_host, head, tmp_path_factory.mktemp("checkpoints"))


def disturbed(network: Network, case: Case, chain: Chain, other: Host, spares: ExitStack) -> None:
    """Bring the fault; a cut ends by itself."""
    if case.fault == "slow":
        network.hosts.limit(other, SLOW_MEGABYTES)
        spares.callback(network.hosts.limit, other, None)
    elif case.fault == "lossy":
        other.lose(LOST_PERCENT)
    else:
        (other.refuse if case.fault == "reset" else other.vanish)()
        chain.open(case.moment)
        if case.fault == "cut" and not case.once:
            # Where the work can run instead.
            spares.callback(network.head.add_node(2, **AWAY).stop)
        time.sleep(case.seconds)
        other.hear()


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_network_that_fails_costs_no_value_and_no_work_that_was_done(
    network: Network, case: Case, tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    is_on_node = case.link == "node"
    other = network.node_host if is_on_node else network.hosts.airflow
    with ExitStack() as stack:
        if is_on_node:
            stack.callback(network.head.add_node(2, other.address, other.command(), **AWAY).stop)
        usual = network.seconds_without_fault(case.moment, tmp_path / "without", is_on_node)
        chain = network.chain(tmp_path / "with", is_on_node)
        stack.callback(other.hear)
        outcome = chain.run(case.moment, lambda: disturbed(network, case, chain, other, stack))
        assert outcome.returned == expected(), outcome.log
        assert re.search(case.log, outcome.log), outcome.log
        assert not case.once or outcome.runs == {"make": 1, "use": 1}, outcome.log
        assert chain.left_running() == []
    measured(case.told, max(0.0, outcome.ended - outcome.struck - usual))


@pytest.mark.only_faults
@pytest.mark.timeout(600)
def test_no_line_is_lost_where_the_connections_of_a_node_are_reset(network: Network, tmp_path: Path) -> None:
    other = network.node_host
    with ExitStack() as stack:
        stack.callback(network.head.add_node(2, other.address, other.command(), **AWAY).stop)
        stack.callback(other.hear)
        command = network.hosts.airflow.command(sys.executable, "-c", WRITING, str(uuid.uuid4()))
        environment = {**os.environ, **network.environment(tmp_path)}
        process = stack.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        for line in process.stdout:
            if line == "writing\n":
                break
        other.refuse()
        time.sleep(1)
        other.hear()
        value, lines = json.loads(process.stdout.read())
    # One that was sent just then may come twice.
    assert value == "done"
    assert list(dict.fromkeys(lines)) == [f"line {number}" for number in range(LINES)]
