"""A real Ray head in processes of its own, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

import psutil

from tools.standalone import free_ports

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class RayHead:
    """A head with 4 CPUs, 2 of a resource named gadget and a small object store; no authentication.

    Its processes cannot import this package, as on a cluster where nobody has installed it.
    """

    def __init__(self, **environment: str) -> None:
        self.temp_dir = tempfile.mkdtemp(prefix="ray-test-")
        self.control_port, self.client_port = free_ports(2)
        self.log = Path(self.temp_dir, "start.log")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={self.control_port}"]
        command += [f"--ray-client-server-port={self.client_port}", "--min-worker-port=0", "--max-worker-port=0"]
        command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={self.temp_dir}"]
        command += ["--num-cpus=4", '--resources={"gadget": 2}', "--object-store-memory=1000000000"]
        defaults = {"GRPC_ENABLE_FORK_SUPPORT": "0", "RAY_AUTH_MODE": "disabled"}
        defaults["PYTHONPATH"] = str(Path(__file__).parent / "without_airflow_ray")
        defaults["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **defaults, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether the Ray Client server, the last to start, accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.client_port)) == 0

    @property
    def client_uri(self) -> str:
        return f"ray://127.0.0.1:{self.client_port}"

    @property
    def driver_uri(self) -> str:
        return f"ray://127.0.0.1:{self.control_port}?mode=driver"

    def processes(self, text: str) -> list[psutil.Process]:
        """Return the head's processes with ``text`` in their command line; a zombie has none."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if text in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        rmtree(self.temp_dir, ignore_errors=True)
