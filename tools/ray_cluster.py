"""A real Ray cluster in processes of its own on this machine, whose parts can be lost."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, cast
from urllib.request import urlopen

import psutil

from airflow_ray.client.connection.bundle import bundle
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.client.kuberay.pods import SLOW_STARTS
from airflow_ray.cluster.gateway.files import noted_process
from airflow_ray.cluster.gateway.settings import TOKEN_VARIABLE, GatewaySettings
from airflow_ray.cluster.protocol import BUNDLE_NAME
from tools.standalone import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_SECONDS = 300.0
STOP_SECONDS = 20.0
PROBE_SECONDS = 5.0
# Where all processors are busy, the first owner of a namespace takes more than a minute to start.
# Airflow warns of a text of a connection that has fewer than five characters.
_PATIENT = "connect_timeout=180.0"
OBJECT_STORE_BYTES = 1_000_000_000
_STARTED = "Ray runtime started"
# Where that is allowed, a head or a node goes first until it is there: Ray gives it half a minute, whatever else the
# machine has to do.
_FIRST = -10


class RayHead:
    """A head without authentication.

    :param ports: of the control service and of the Ray Client server; free ones if None.
    :param num_cpus: CPUs of the head itself.
    :param resources: custom resources of the head itself.
    :param environment: further environment variables of the head and its nodes.
    :param object_store_bytes: what the object store of the head takes.
    :param python: the interpreter whose Ray it is.
    :param dashboard_port: of the dashboard, which it does not have if None.
    :param address: that it listens on, and that its nodes reach it by.
    :param prefix: what each of its commands begins with, such as what makes it run on another host.
    """

    def __init__(
        self,
        ports: tuple[int, int] | None = None,
        num_cpus: int = 4,
        resources: dict[str, float] | None = None,
        environment: dict[str, str] | None = None,
        object_store_bytes: int = OBJECT_STORE_BYTES,
        python: str = sys.executable,
        dashboard_port: int | None = None,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        control_port, client_port = ports or free_ports(2)
        self.ports = control_port, client_port
        self.dashboard_port = dashboard_port
        self.address = address
        self.prefix = prefix
        self.temp_dir = tempfile.mkdtemp(prefix="ray-")
        self.environment = environment or {}
        #: Port and token of the gateway, where one was started.
        self.gateway: tuple[int, str] | None = None
        self.python = python
        options = ["--head", f"--port={control_port}", f"--ray-client-server-port={client_port}"]
        # Ray's own choice for the agent is one port for all heads of a machine.
        (self._agent_port,) = free_ports(1)
        options += [f"--temp-dir={self.temp_dir}", *self._dashboard_options()]
        options += [f"--object-store-memory={object_store_bytes}"]
        options += [f"--num-cpus={num_cpus}", f"--resources={json.dumps(resources or {})}"]
        #: What its command writes.
        self.log = Path(self.temp_dir, "start.log")
        try:
            self.process = _start(self, options, self.log, self._answers, (address, prefix))
        except BaseException:
            rmtree(self.temp_dir, ignore_errors=True)
            raise

    def _dashboard_options(self) -> list[str]:
        if self.dashboard_port is None:
            return ["--include-dashboard=false"]
        options = ["--include-dashboard=true", f"--dashboard-agent-listen-port={self._agent_port}"]
        return [*options, f"--dashboard-host={self.address}", f"--dashboard-port={self.dashboard_port}"]

    def _answers(self) -> bool:
        """Whether the Ray Client server, the last to start, accepts connections, where that can be tried."""
        return _STARTED in self.log.read_text() if self.prefix else answers(self.ports[1])

    def is_healthy(self) -> bool:
        """Whether the readiness probe of KubeRay succeeds, for which the head needs a dashboard."""
        probes = (self.dashboard_port, "gcs_healthz"), (self._agent_port, "local_raylet_healthz")
        with suppress(OSError):
            for port, name in probes:
                with urlopen(f"http://{self.address}:{port}/api/{name}", timeout=PROBE_SECONDS):
                    pass
            return True
        return False

    @property
    def client_uri(self) -> str:
        """The Airflow connection over Ray Client."""
        return f"ray://127.0.0.1:{self.ports[1]}?{_PATIENT}"

    @property
    def driver_uri(self) -> str:
        """The Airflow connection as a driver."""
        return f"ray://127.0.0.1:{self.ports[0]}?mode=driver&{_PATIENT}"

    @property
    def gateway_uri(self) -> str:
        """The Airflow connection through the gateway, which is started when this is first asked for."""
        if self.gateway is None:
            self.start_gateway(free_ports(1)[0], secrets.token_hex(16))
        port, token = cast("tuple[int, str]", self.gateway)
        return f"ray://:{token}@127.0.0.1:{port}?mode=gateway&{_PATIENT}"

    def start_gateway(self, port: int, token: str, host: str = "127.0.0.1") -> None:
        """Start the gateway as a cluster's start command does; where it does not start, the head ends too."""
        self.gateway = port, token
        bundle_file = Path(self.temp_dir, BUNDLE_NAME)
        bundle_file.write_bytes(bundle())
        place = ["--address", f"127.0.0.1:{self.ports[0]}", "--host", host, "--port", str(port)]
        try:
            subprocess.run(
                [self.python, str(bundle_file), "start", *place, "--folder", self._gateway_folder],
                env={**os.environ, "RAY_AUTH_MODE": "disabled", **self.environment, TOKEN_VARIABLE: token},
                check=True,
                timeout=START_SECONDS,
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            self.stop()
            raise

    def kill_gateway(self) -> None:
        """End the gateway's process at once with SIGKILL; its keeper starts another one."""
        while (process := noted_process(GatewaySettings(self._gateway_folder))) is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)

    @property
    def _gateway_folder(self) -> str:
        return str(Path(self.temp_dir, "gateway"))

    def processes(self, text: str) -> list[psutil.Process]:
        """Return the head's processes with ``text`` in their command line; a zombie has none."""
        return _descendants(self.process.pid, text)

    def add_node(
        self, num_cpus: int = 1, address: str | None = None, prefix: Sequence[str] | None = None, **resources: float
    ) -> RayNode:
        """Start a further node with these resources.

        :param num_cpus: its CPUs.
        :param address: that the head reaches it by; None for that of the head.
        :param prefix: what its command begins with; None for that of the head.
        """
        return RayNode(self, num_cpus, resources, address or self.address, self.prefix if prefix is None else prefix)

    def kill(self) -> None:
        """End all processes at once with SIGKILL, as the loss of the machine does."""
        _kill_family(self.process)
        rmtree(self.temp_dir, ignore_errors=True)

    def stop(self) -> None:
        """End all processes of the head as Ray does it."""
        _stop(self.process)
        rmtree(self.temp_dir, ignore_errors=True)


class RayNode:
    """A node that is not the head."""

    def __init__(
        self, head: RayHead, num_cpus: int, resources: dict[str, float], address: str, prefix: Sequence[str]
    ) -> None:
        log = Path(head.temp_dir, f"node-{os.urandom(4).hex()}.log")
        options = [f"--address={head.address}:{head.ports[0]}", f"--num-cpus={num_cpus}"]
        options += [f"--object-store-memory={OBJECT_STORE_BYTES}"]
        options += [f"--resources={json.dumps(resources)}"]
        place = address, prefix
        self.process = _start(head, options, log, lambda: _STARTED in log.read_text(), place)

    def kill(self) -> None:
        """End all processes at once with SIGKILL, as the loss of the machine does."""
        _kill_family(self.process)

    def stop(self) -> None:
        """End all processes of the node as Ray does it: the head knows of it at once."""
        _stop(self.process)


def _start(
    head: RayHead, options: list[str], log: Path, ready: Callable[[], bool], place: tuple[str, Sequence[str]]
) -> subprocess.Popen[bytes]:
    address, prefix = place
    command = [*prefix, head.python, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += [f"--node-ip-address={address}", "--min-worker-port=0", "--max-worker-port=0"]
    command += options
    defaults = {"GRPC_ENABLE_FORK_SUPPORT": "0", "RAY_AUTH_MODE": "disabled"}
    defaults["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    # Ray Client's own 30 seconds are not enough for each start of a process on a busy machine.
    defaults["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"
    # The loss of a node shows after two seconds instead of most of a minute.
    defaults |= {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500"}
    defaults |= {"RAY_health_check_timeout_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    environment = {**os.environ, **defaults, **head.environment}
    deadline = time.monotonic() + START_SECONDS
    while True:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if _becomes_ready(process, ready, deadline):
            return process
        told = log.read_text()
        if not any(text in told for text in SLOW_STARTS) or time.monotonic() >= deadline:
            raise RuntimeError(told)


def _becomes_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], deadline: float) -> bool:
    """Return whether a process was ready in time; one that was not has ended, with all that it has started."""
    is_ready = False
    try:
        _let_go_first(process.pid)
        while not (has_begun := ready()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        _let_go_on_as_others(process.pid)
        is_ready = has_begun
    # Ctrl-C while it starts must leave no process behind either.
    finally:
        if not is_ready:
            _kill_family(process)
    return is_ready


def _let_go_first(leader: int) -> None:
    """Let a session go first, where that is allowed, as long as it starts. What it starts does as it does."""
    with suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, leader, os.nice(0) + _FIRST)
        _set_niceness_of_session(leader, _FIRST)


def _let_go_on_as_others(leader: int) -> None:
    _set_niceness_of_session(leader, 0)
    own = os.nice(0)
    # Of Linux, each thread has a niceness; whoever starts another one meanwhile passes it on.
    while first := [thread for thread in _threads_of_session(leader) if _niceness(thread) == own + _FIRST]:
        for thread in first:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, own)


def _set_niceness_of_session(leader: int, niceness: int) -> None:
    """Set how a session stands to others, where Linux shares the processors among sessions first."""
    with suppress(OSError):
        Path(f"/proc/{leader}/autogroup").write_text(str(niceness))


def _threads_of_session(leader: int) -> list[int]:
    found = []
    for process in _of_session(leader):
        tasks = Path(f"/proc/{process.pid}/task")
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [process.pid]
    return found


def _niceness(thread: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpriority(os.PRIO_PROCESS, thread)
    return None


def _descendants(pid: int, text: str = "") -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


def _of_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    _kill_family(process)


def _kill_family(process: subprocess.Popen[bytes]) -> None:
    # One that has ended by itself may have left some behind, who are nobody's children.
    family = _of_session(process.pid)
    family += _descendants(process.pid) if process.poll() is None else []
    process.kill()
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(family, timeout=STOP_SECONDS)
