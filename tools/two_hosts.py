"""Two or more hosts on this machine: network namespaces, cables between them, and few ports that are open."""

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
# The head's end of another one, to a host that is let in everywhere.
_INNER_CABLE = "inner"


class Host:
    """A network namespace with an end of the cable.

    :param namespace: its name.
    :param address: what the other host reaches it by.
    :param ports: of TCP, to which packets from the cable are let in; None lets in all.
    """

    def __init__(self, namespace: str, address: str, ports: tuple[int, ...] | None = None) -> None:
        self.namespace = namespace
        self.address = address
        self._ports = ports

    def command(self, *command: str) -> list[str]:
        """Return what runs a command on this host."""
        return ["nsenter", f"--net={FOLDER / self.namespace}", *command]

    def hear(self) -> None:
        """Let in what is for the open ports, and let everything out."""
        self._set(self._open)

    def go_deaf(self) -> None:
        """Drop each packet that arrives, which the sender is not told."""
        self._set("drop")

    def vanish(self) -> None:
        """Drop each packet that arrives or leaves, which nobody is told."""
        self._set("drop", "drop")

    def refuse(self) -> None:
        """Answer each packet of TCP with the end of its connection, as a firewall does that has lost what it knew."""
        self._set("meta l4proto tcp reject with tcp reset")

    def lose(self, percent: int) -> None:
        """Drop so many of the packets that arrive, and of those that leave."""
        some = f"numgen random mod 100 < {percent} drop;"
        self._set(f"{some} {self._open}", f"{some} accept")

    def limit(self, megabytes: float | None, device: str = _CABLE) -> None:
        """Let it send no more than this in a second; None for as much as it can."""
        change = ["tc", "qdisc", "replace" if megabytes else "delete", "dev", device, "root"]
        if megabytes:
            change += ["tbf", "rate", f"{megabytes:g}mbps", "burst", "256kb", "latency", "100ms"]
        _run(*self.command(*change))

    @property
    def _open(self) -> str:
        inner = f'iifname "{_INNER_CABLE}" accept; '
        return inner + (
            "accept" if self._ports is None else f"tcp dport {{ {', '.join(map(str, self._ports))} }} accept"
        )

    def _set(self, arriving: str, leaving: str = "accept") -> None:
        """Replace, in one step, what happens to a packet from or to a cable."""
        chains = {"arriving": f"input priority 0; policy drop; iif lo accept; {arriving};"}
        chains["leaving"] = f"output priority 0; policy drop; oif lo accept; {leaving};"
        made = "".join(f"chain {name} {{ type filter hook {rules} }}\n" for name, rules in chains.items())
        empty = f"table inet {_CABLE}\ndelete table inet {_CABLE}\n"
        _run(*self.command("nft", "-f", "-"), given=f"{empty}table inet {_CABLE} {{\n{made}}}\n")


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
        self._more: list[Host] = []
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
        self.airflow.limit(megabytes)

    def speed_up(self) -> None:
        """Let it send as much as it can."""
        self.airflow.limit(None)

    def limit(self, host: Host, megabytes: float | None) -> None:
        """Let no more than this go in a second between a host and the head, either way; None for no limit."""
        host.limit(megabytes)
        self.head.limit(megabytes, _CABLE if host is self.airflow else _INNER_CABLE)

    def add_host(self) -> Host:
        """Add a host with a cable to the head's, which lets in all that comes from there."""
        base = self.head.address.rpartition(".")[0].split(".")
        net = ".".join([base[0], base[1], str((int(base[2]) + 1) % 256)])
        host = Host(self.head.namespace.replace("-head", "-node"), f"{net}.2")
        self._more.append(host)
        _run("ip", "netns", "add", host.namespace)
        self._join(self.head, _INNER_CABLE, f"{net}.1", host)
        _run("ip", "-n", host.namespace, "route", "add", "default", "via", f"{net}.1")
        return host

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
        for host in (self.head, self.airflow, *self._more):
            _remove(host.namespace)

    def _connect(self) -> None:
        for host in (self.head, self.airflow):
            _run("ip", "netns", "add", host.namespace)
        self._join(self.head, _CABLE, self.head.address, self.airflow)
        self.head.hear()

    def _join(self, one: Host, device: str, address: str, other: Host) -> None:
        """Lay a cable."""
        ends = ["netns", one.namespace], ["netns", other.namespace]
        _run("ip", "link", "add", device, *ends[0], "type", "veth", "peer", "name", _CABLE, *ends[1])
        for namespace, name, own in ((one.namespace, device, address), (other.namespace, _CABLE, other.address)):
            _run("ip", "-n", namespace, "address", "add", f"{own}/24", "dev", name)
            for each in ("lo", name):
                _run("ip", "-n", namespace, "link", "set", each, "up")
        other.hear()


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
