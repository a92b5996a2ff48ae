"""A PostgreSQL server in a process of its own on this machine, for an Airflow that runs many tasks at a time."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_ray.client.connection.head_process import free_ports

START_SECONDS = 150.0
STOP_SECONDS = 30.0
# Where Debian has the programs of each release; only some of them are on its PATH.
DEBIAN = Path("/usr/lib/postgresql")
USER = "postgres"
DRIVERS = ("psycopg2", "asyncpg")
CONNECTIONS = 300
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def missing() -> str | None:
    """Return what keeps a server from being started here, or None."""
    if _program("initdb") is None:
        return "PostgreSQL is not installed"
    if os.getuid() == 0 and not _has_user():
        return f"PostgreSQL does not run as root, and there is no user {USER}"
    absent = [name for name in DRIVERS if find_spec(name) is None]
    return f"Python has no {' and no '.join(absent)}" if absent else None


class PostgresServer:
    """A server on a free port with an empty database, and as many more as are asked for, which are gone with it.

    As a context manager it stops the server at the end.

    >>> with PostgresServer() as server:  # doctest: +SKIP
    ...     StandaloneAirflow(home, dags, server.environment)
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self._databases = 0
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.getuid() == 0:
            shutil.chown(self._folder, USER)
        try:
            self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8")
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of an Airflow that keeps its database here."""
        return self._environment(USER)

    def new_database(self) -> dict[str, str]:
        """Make one more database, and return the environment variables of an Airflow that keeps its own in it."""
        self._databases += 1
        name = f"airflow_{self._databases}"
        self._ask(f"CREATE DATABASE {name}")
        return self._environment(name)

    def cut(self) -> int:
        """End all connections of clients, as a server does that restarts, and return how many there were."""
        return sum(ended for (ended,) in self._ask(_CUT))

    def stop(self) -> None:
        """Stop the server and remove what it has stored."""
        if (self._folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "--mode=immediate", "--wait", f"--timeout={STOP_SECONDS:g}")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self, database: str) -> dict[str, str]:
        place = f"{USER}@127.0.0.1:{self.port}/{database}"
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{place}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{place}",
        }

    def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement outside of any transaction, and return its rows."""
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, dbname=USER)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c max_connections={CONNECTIONS}"
        # Nothing of it outlives a loss of power, as nothing has to.
        options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        # The processes of a LocalExecutor outlive a scheduler that is killed, and keep its connection open with its
        # locks: no other scheduler would start a task. One that only stands still for half a minute keeps its own.
        options += " -c idle_in_transaction_session_timeout=60s"
        log = f"--log={self._folder}/log"
        self._run("pg_ctl", "start", "--wait", f"--timeout={START_SECONDS:g}", log, "--options", options)

    def _run(self, name: str, *arguments: str) -> None:
        program = _program(name)
        if program is None:
            raise RuntimeError("PostgreSQL is not installed")
        command = [str(program), f"--pgdata={self._folder}/data", *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        # The server inherits the output of the program that starts it: a pipe would not end.
        with (self._folder / "commands").open("ab") as output:
            finished = subprocess.run(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
        if finished.returncode:
            told = (self._folder / "commands").read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{name} failed:\n{told}")


def _program(name: str) -> Path | None:
    releases = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if releases:
        return releases[-1]
    found = shutil.which(name)
    return Path(found) if found else None


def _has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True
