"""Two hosts on this machine: network namespaces, a cable between them, and few ports that are open."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tools.ray_cluster import RayHead

COMMANDS = ("ip", "nft", "nsenter", "tc")
GATEWAY_PORT, DASHBOARD_PORT = 8815, 8265
# Neither of these two is open.
CONTROL_PORT, CLIENT_PORT = 6379, 10001
FOLDER = Path("/run/netns")
_PREFIX = "two-hosts"
_CABLE = "cable"


class Host:
    """A network namespace with an end of the cable.

    :param namespace: its name.
    :param address: what the other host reaches it by.
    :param ports: of TCP, to which packets are let in; None lets in all.
    """

    def __init__(self, namespace: str, address: str, ports: tuple[int, ...] | None = None) -> None:
        self.namespace = namespace
        self.address = address
        self._ports = ports

    def command(self, *command: str) -> list[str]:
        """Return what runs a command on this host."""
        return ["nsenter", f"--net={FOLDER / self.namespace}", *command]

    def hear(self) -> None:
        """Let in what is for the open ports."""
        self._let_in("accept" if self._ports is None else f"tcp dport {{ {', '.join(map(str, self._ports))} }} accept")

    def go_deaf(self) -> None:
        """Drop each packet that arrives, which the sender is not told."""
        self._let_in("drop")

    def _let_in(self, rule: str) -> None:
        """Replace, in one step, what happens to a packet from the cable."""
        chain = "type filter hook input priority 0; policy drop;"
        _run(
            *self.command("nft", "-f", "-"),
            given=f"table inet {_CABLE} {{ chain arriving {{ {chain} }}\n}}\nflush table inet {_CABLE}\n"
            f"table inet {_CABLE} {{ chain arriving {{ iif lo accept; {rule}; }}\n}}\n",
        )


class TwoHosts:
    """The host of a cluster's head and one of Airflow.

    The ports of the gateway and the dashboard are open on the first. Files and processes are those of this machine.

    :raises RuntimeError: the machine does not allow that; see :func:`reason_against`.
    """

    def __init__(self) -> None:
        _remove_leftovers()
        name = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
        # Notes about a head are kept by its address, also in folders of the machine.
        net = ".".join(str(secrets.randbelow(254) + 1) for _ in range(2))
        self.head = Host(f"{name}-head", f"10.{net}.1", (GATEWAY_PORT, DASHBOARD_PORT))
        self.airflow = Host(f"{name}-airflow", f"10.{net}.2")
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def cut(self) -> None:
        """Let no packet arrive any more, on either side."""
        self.airflow.go_deaf()
        self.head.go_deaf()

    def mend(self) -> None:
        """Let packets arrive again."""
        self.head.hear()
        self.airflow.hear()

    def slow_down(self, megabytes: float) -> None:
        """Let Airflow's host send no more than this in a second."""
        limit = ["rate", f"{megabytes:g}mbps", "burst", "256kb", "latency", "100ms"]
        _run(*self.airflow.command("tc", "qdisc", "replace", "dev", _CABLE, "root", "tbf", *limit))

    def speed_up(self) -> None:
        """Let it send as much as it can."""
        _run(*self.airflow.command("tc", "qdisc", "delete", "dev", _CABLE, "root"))

    def start_ray(self, environment: dict[str, str]) -> RayHead:
        """Start a head with a dashboard on its host.

        :param environment: as of :class:`~tools.ray_cluster.RayHead`.
        """
        # A job calls python.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return RayHead(
            (CONTROL_PORT, CLIENT_PORT),
            environment={"PATH": path, **environment},
            dashboard_port=DASHBOARD_PORT,
            address=self.head.address,
            prefix=self.head.command(),
        )

    def close(self) -> None:
        """Remove both; what still runs there is cut off."""
        for host in (self.head, self.airflow):
            _remove(host.namespace)

    def _connect(self) -> None:
        hosts = self.head, self.airflow
        for host in hosts:
            _run("ip", "netns", "add", host.namespace)
        one, other = (["netns", host.namespace] for host in hosts)
        _run("ip", "link", "add", _CABLE, *one, "type", "veth", "peer", "name", _CABLE, *other)
        for host in hosts:
            _run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", _CABLE)
            for device in ("lo", _CABLE):
                _run("ip", "-n", host.namespace, "link", "set", device, "up")
            host.hear()


def reason_against() -> str | None:
    """Return why there can be no two hosts on this machine, or None."""
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"there is no {' and no '.join(missing)} here"
    try:
        with closing(TwoHosts()) as hosts:
            hosts.slow_down(1)
    except RuntimeError as error:
        return str(error)
    return None


def _remove_leftovers() -> None:
    """Remove those of processes that were killed."""
    for path in FOLDER.glob(f"{_PREFIX}-*"):
        pid = path.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if not Path("/proc", pid).exists():
            _remove(path.name)


def _remove(namespace: str) -> None:
    if Path(FOLDER, namespace).exists():
        _run("ip", "netns", "delete", namespace)


def _run(*command: str, given: str = "") -> None:
    finished = subprocess.run(command, input=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)}: {finished.stderr.strip()}")
