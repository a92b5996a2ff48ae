"""Pods' networks on this machine: a network namespace for each, with an address that this machine reaches."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

COMMANDS = ("ip", "nsenter")
FOLDER = Path("/run/netns")
PREFIX = "ray-pod"


class PodNetwork:
    """A network namespace and a cable to it.

    :raises RuntimeError: the machine does not allow that; see :func:`reason_against`.
    """

    def __init__(self) -> None:
        name = secrets.token_hex(4)
        self.namespace = f"{PREFIX}-{os.getpid()}-{name}"
        # Notes about a head are kept by its address, also in folders of the machine.
        net = ".".join(str(secrets.randbelow(254) + 1) for _ in range(2))
        self.address = f"10.{net}.2"
        cable = f"pod-{name}"
        _run("ip", "netns", "add", self.namespace)
        try:
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
            _run("ip", "address", "add", f"10.{net}.1/30", "dev", cable)
            _run("ip", "-n", self.namespace, "address", "add", f"{self.address}/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", self.namespace, "link", "set", device, "up")
            _run("ip", "link", "set", cable, "up")
        except BaseException:
            self.close()
            raise

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that runs there."""
        return ["nsenter", f"--net={FOLDER / self.namespace}"]

    def close(self) -> None:
        """Remove it, and with it the cable."""
        _remove(self.namespace)


def reason_against() -> str | None:
    """Return why there can be no such network on this machine, or None."""
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"there is no {' and no '.join(missing)} here"
    try:
        remove_leftovers()
        with closing(PodNetwork()):
            return None
    except RuntimeError as error:
        return str(error)


def remove_leftovers() -> None:
    """Remove those of processes that were killed."""
    for path in FOLDER.glob(f"{PREFIX}-*"):
        pid = path.name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if not Path("/proc", pid).exists():
            _remove(path.name)


def _remove(namespace: str) -> None:
    if Path(FOLDER, namespace).exists():
        _run("ip", "netns", "delete", namespace)


def _run(*command: str) -> None:
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)}: {finished.stderr.strip()}")
