"""A real Airflow with scheduler, DAG processor, triggerer and API server, in a folder of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict, deque
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from airflow_ray.client.connection.head_process import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOCAL_CONNECTION = '{"conn_type": "ray", "extra": {"mode": "local", "connect_timeout": 120}}'
START_SECONDS = 300.0
# What has not ended by then is killed, which none of them minds.
STOP_SECONDS = 5.0
# A part of Airflow whose write waits for another's longer than this ends; five by default, which a slow disk exceeds.
DATABASE_SECONDS = 300
# Where many tasks start at once, it has to wait for a processor itself.
ANSWER_SECONDS = 120.0
POLL_SECONDS = 0.25
# Of each part of Airflow, in the error that something has not come.
LAST_LINES = 15
# As many entries as Airflow's API gives at once.
PAGE = 100
FINISHED_STATES = frozenset({"success", "failed"})


class StandaloneAirflow:
    """``airflow standalone`` on free ports of this machine, with everybody an admin unless there are ``users``.

    What tasks ask has a server of its own. In one server for all, a click waits for SQLite's lock where the request of
    a task that holds it cannot end meanwhile: both stand still until the time to wait for the lock is over.

    As a context manager it starts Airflow and waits until it is healthy; at the end it stops all of
    Airflow's processes and the embedded Ray head that its tasks have started.

    :param home: the ``AIRFLOW_HOME``, made if there is none; it can be used again.
    :param dags_folder: the folder of the DAG files.
    :param environment: further environment variables.
    :param users: the role of each user by name, which is the password too; there must be an ``admin``.

    >>> with StandaloneAirflow(Path("/tmp/home"), Path("examples")) as airflow:  # doctest: +SKIP
    ...     run_id = airflow.trigger("xgboost_breast_cancer")
    ...     airflow.wait("xgboost_breast_cancer", run_id, timeout=300)
    'success'
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        environment: dict[str, str] | None = None,
        users: dict[str, str] | None = None,
    ) -> None:
        self.home = home
        self._users = users
        api_port, self._execution_port, worker_log_port, trigger_log_port = free_ports(4)
        self.url = f"http://127.0.0.1:{api_port}"
        self._execution_url = f"http://127.0.0.1:{self._execution_port}/execution/"
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout={DATABASE_SECONDS}",
            # Those of all Airflows of a machine would come into one folder.
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": self._execution_url,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api_port),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            # A task that has waited longer for its turn cannot start; ten minutes by default.
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "7200",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            # A file that has changed is parsed at once; the others need not be, over and over again.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "150",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # Where many processes start at once on two cores, any task of Airflow may fail for want of an answer.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(home / "ray"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **self._of_users(),
            **(environment or {}),
        }
        self._log = home / "standalone.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._more: list[subprocess.Popen[bytes]] = []
        self._orphans: list[psutil.Process] = []
        self._http = requests.Session()

    def __enter__(self) -> StandaloneAirflow:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        # Ctrl-C while Airflow starts must leave no process behind either.
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def database(self) -> str:
        """The address of Airflow's database, as SQLAlchemy takes it."""
        return self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]

    def token(self, user: str = "admin") -> str:
        """Return what a user is known by, in a header or as the cookie ``_token``."""
        address = f"{self.url}/auth/token"
        if self._users is None:
            answer = self._http.get(address, timeout=ANSWER_SECONDS)
        else:
            answer = self._http.post(address, json={"username": user, "password": user}, timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run of a DAG as soon as its file is parsed and return the run's id.

        :param conf: the run's configuration.
        :param run_id: the run's id; None lets Airflow make one.
        :raises RuntimeError: a DAG file cannot be imported, or the DAG does not appear.
        """
        self.wait_for_dag(dag_id)
        answer = self._post(f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}, "dag_run_id": run_id})
        return str(answer["dag_run_id"])

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the file of a DAG is parsed.

        :raises RuntimeError: a DAG file cannot be imported, or the DAG does not appear.
        """
        self._until(lambda: self._knows(dag_id), f"DAG {dag_id} does not appear")

    def wait_for_version(self, dag_id: str, number: int) -> None:
        """Wait until Airflow has parsed a DAG in its version of this number.

        :raises RuntimeError: it does not appear.
        """
        path = f"dags/{dag_id}/dagVersions"
        self._until(
            lambda: self._get(path)["total_entries"] >= number, f"Version {number} of DAG {dag_id} does not appear"
        )

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Wait until a task instance is in a state.

        :raises RuntimeError: it does not come into that state.
        """
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._until(lambda: self._get(path)["state"] == state, f"{task_id} of {dag_id} is not {state}")

    def runs(self, dag_id: str) -> list[str]:
        """Return the ids of the runs of a DAG, the first :data:`PAGE` that there were."""
        return [str(run["dag_run_id"]) for run in self._get(f"dags/{dag_id}/dagRuns", limit=PAGE)["dag_runs"]]

    def first_run(self, dag_id: str, timeout: float) -> str:
        """Return the id of the first run of a DAG that something else starts.

        :param timeout: seconds to wait for it.
        :raises RuntimeError: there was none by then.
        """
        path = f"dags/{dag_id}/dagRuns"
        self._until(lambda: self._get(path)["total_entries"] > 0, f"{dag_id} does not start", timeout)
        return str(self._get(path, order_by="id")["dag_runs"][0]["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as the REST API describes it."""
        described: dict[str, Any] = self._get(f"dags/{dag_id}/dagRuns/{run_id}")
        return described

    def wait(self, dag_id: str, run_id: str, timeout: float) -> str:
        """Return the final state of a run, ``success`` or ``failed``.

        :param timeout: seconds to wait.
        :raises RuntimeError: the run had not ended by then.
        """
        path = f"dags/{dag_id}/dagRuns/{run_id}"
        self._until(lambda: self._get(path)["state"] in FINISHED_STATES, f"{dag_id} does not end", timeout)
        return str(self._get(path)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, as the REST API describes them, in the order of their start."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        instances: list[dict[str, Any]] = []
        while page := self._get(path, limit=PAGE, offset=len(instances), order_by="id")["task_instances"]:
            instances += page
        return sorted(instances, key=lambda instance: instance["start_date"] or "~")

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return the XComs of a task instance by key."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        keys = [entry["key"] for entry in self._get(path, map_index=map_index)["xcom_entries"]]
        return {key: self._get(f"{path}/{key}", map_index=map_index)["value"] for key in keys}

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task instance as plain lines, with the tracebacks of errors."""
        return "\n".join(_log_lines(self.log_entries(dag_id, run_id, task_id, try_number, map_index)))

    def log_entries(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> list[dict[str, Any]]:
        """Return the log of one try of a task instance as the REST API has it, with what has written each line."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        entries: list[dict[str, Any]] = self._get(path, map_index=map_index, full_content=True)["content"]
        return entries

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance as a person does in the UI."""
        path = f"{self.url}/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._http.patch(path, json={"new_state": state}, timeout=ANSWER_SECONDS).raise_for_status()

    def clear(self, dag_id: str, run_id: str, task_id: str, downstream: bool = False) -> None:
        """Clear a task instance as a person does in the UI, so that it runs again.

        :param downstream: and those after it, with the setups that they need.
        """
        body = {"dry_run": False, "task_ids": [task_id], "dag_run_id": run_id, "only_failed": False}
        body |= {"include_downstream": downstream}
        self._post(f"dags/{dag_id}/clearTaskInstances", body)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return the processes of Airflow's whose command lines have one of these words."""
        found = []
        for each in self._family():
            with suppress(psutil.NoSuchProcess):
                if any(word in " ".join(each.cmdline()) for word in words):
                    found.append(each)
        return found

    def kill_triggerer(self) -> None:
        """End the triggerer's processes at once with SIGKILL and start another one."""
        for each in self.processes("triggerer"):
            with suppress(psutil.NoSuchProcess):
                # What serves its log files would stay behind.
                for process in [each, *each.children(recursive=True)]:
                    process.kill()
        self.start_more("triggerer")

    def kill_scheduler(self) -> None:
        """End the scheduler at once with SIGKILL and start another one; the tasks that it has started stay."""
        for each in self.processes("airflow scheduler"):
            with suppress(psutil.NoSuchProcess):
                self._orphans += each.children()
                each.kill()
        self.start_more("scheduler")

    def start_more(self, part: str, *arguments: str) -> None:
        """Start one more scheduler, triggerer or API server."""
        command = [sys.executable, "-m", "airflow", part, *arguments]
        with self._log.open("ab") as output:
            self._more.append(
                subprocess.Popen(command, env=self.environment, stdout=output, stderr=output, start_new_session=True)
            )

    def stop(self) -> None:
        """Stop all of Airflow's processes, and the embedded Ray head."""
        while self._more:
            _end(self._more.pop())
        for each in self._orphans:
            with suppress(psutil.NoSuchProcess):
                for process in [*each.children(recursive=True), each]:
                    process.kill()
        if self._process is not None:
            _end(self._process)
            self._process = None
        if not Path(self.environment["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"]).exists():
            return
        command = [sys.executable, "-m", "airflow_ray.hooks.local_head", "stop"]
        subprocess.run(command, env=self.environment, capture_output=True, check=False, start_new_session=True)

    def _family(self) -> list[psutil.Process]:
        """Return all processes of Airflow, also of the parts that were started in place of others."""
        family = []
        for started in filter(None, [self._process, *self._more]):
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(started.pid)
                family += [parent, *parent.children(recursive=True)]
        return family

    def _of_users(self) -> dict[str, str]:
        """Return the settings of Airflow that make the users."""
        if self._users is None:
            return {}
        passwords = self.home / "passwords.json"
        self.home.mkdir(parents=True, exist_ok=True)
        passwords.write_text(json.dumps({name: name for name in self._users}))
        return {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(map(":".join, self._users.items())),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }

    def _start(self) -> None:
        # Appended to: other parts write there too, and those that are started later.
        with self._log.open("ab") as output:
            migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
            # An API server ends where the tables are not there yet. What fails here fails below too, and is told.
            subprocess.run(migrate, env=self.environment, stdout=output, stderr=output, check=False)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.start_more("api-server", "--apps", "execution", "--port", str(self._execution_port))
        self._until(self._healthy, "Airflow does not start")
        self._http.headers["Authorization"] = f"Bearer {self.token()}"

    def _healthy(self) -> bool:
        with suppress(requests.RequestException, ValueError, KeyError):
            # Its first answer takes some seconds of a processor.
            self._http.get(f"{self._execution_url}health", timeout=ANSWER_SECONDS).raise_for_status()
            parts = self._get("monitor/health")
            return all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))
        return False

    def _knows(self, dag_id: str) -> bool:
        if errors := self._get("importErrors")["import_errors"]:
            raise RuntimeError(errors[0]["stack_trace"])
        return self._http.get(f"{self.url}/api/v2/dags/{dag_id}/details", timeout=ANSWER_SECONDS).ok

    def _until(self, condition: Callable[[], bool], complaint: str, timeout: float = START_SECONDS) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            died = self._process is None or self._process.poll() is not None
            if died or time.monotonic() > deadline:
                last = _last_lines(self._log.read_text(errors="replace"))
                raise RuntimeError(f"{complaint}: Airflow {'died' if died else 'is not ready'}\n{last}")
            time.sleep(POLL_SECONDS)

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = self._http.get(f"{self.url}/api/v2/{path}", params=parameters, timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(f"{self.url}/api/v2/{path}", json=body, timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return answer.json()


def stop_by_sigterm_as_by_ctrl_c() -> None:
    """Let SIGTERM raise KeyboardInterrupt, so that a context manager can stop what it has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _log_lines(entries: list[dict[str, Any]]) -> list[str]:
    lines = []
    for entry in entries:
        lines.append(str(entry["event"]))
        for error in entry.get("error_detail") or []:
            lines.append(f"{error['exc_type']}: {error['exc_value']}")
    return lines


def _last_lines(log: str) -> str:
    """Return the last lines of each part of Airflow, since one that has ended says no more and others go on."""
    by_part: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
    for line in log.splitlines():
        part, separator, _ = line.partition(" | ")
        by_part[part if separator else ""].append(line)
    return "\n".join(chain.from_iterable(by_part.values()))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and all that it has started, which may lie in other sessions."""
    processes: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        processes = [parent, *parent.children(recursive=True)]
    # All at once: Airflow itself stops its parts one after another, each with a time to wait.
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while (alive := [each for each in processes if _runs(each)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for survivor in alive:
        with suppress(psutil.NoSuchProcess):
            # With what it has started since.
            for each in [*survivor.children(recursive=True), survivor]:
                each.kill()
    process.wait()


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows with their columns aligned; the first is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def answers(port: int) -> bool:
    """Return whether somebody on this machine listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
