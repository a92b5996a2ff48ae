"""A process that is killed just after it has started the embedded head."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

# As a machine that runs out of memory does it to a task.
KILLED_WHILE_IT_STARTS = """
import os, signal, subprocess

start = subprocess.Popen.__init__

def start_and_die(process, *args, **kwargs):
    start(process, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

from airflow_ray.client.connection import local_head

subprocess.Popen.__init__ = start_and_die
local_head.ensure(60)
"""

ENSURE = """
from airflow_ray.client.connection import local_head

print(local_head.ensure(120).pid)
"""


@pytest.fixture
def environment(tmp_path):
    environment = {**os.environ, "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(tmp_path)}
    yield environment
    run(environment, "-m", "airflow_ray.hooks.local_head", "stop")
    # What nobody knows of nobody stops.
    for each in started_in(tmp_path):
        os.killpg(each.pid, signal.SIGKILL)


def run(environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def started_in(folder) -> list[psutil.Process]:
    """Return the processes that have begun a head with the token of this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        variables, command = process.info["environ"] or {}, process.info["cmdline"] or []
        if variables.get("RAY_AUTH_TOKEN_PATH", "").startswith(str(folder)) and "ray.scripts.scripts" in command:
            found.append(process)
    return found


@pytest.mark.slow
def test_head_of_a_killed_process_is_taken_over(environment, tmp_path):
    assert run(environment, "-c", KILLED_WHILE_IT_STARTS).returncode == -signal.SIGKILL
    ensured = run(environment, "-c", ENSURE)
    assert [each.pid for each in started_in(tmp_path)] == [int(ensured.stdout)]


@pytest.mark.slow
def test_head_of_a_killed_process_is_stopped(environment, tmp_path):
    assert run(environment, "-c", KILLED_WHILE_IT_STARTS).returncode == -signal.SIGKILL
    assert run(environment, "-m", "airflow_ray.hooks.local_head", "stop").stdout.strip() == "stopped"
    assert started_in(tmp_path) == []
