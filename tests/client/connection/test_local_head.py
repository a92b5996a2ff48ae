"""The embedded Ray head of mode local, in a folder of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.ray_head import RayHead

# It takes a minute, and the tests from end to end use such a head too.
pytestmark = pytest.mark.slow
CONNECTION = '{"conn_type": "ray", "extra": {"mode": "local", "connect_timeout": 120}}'

TASK = """
import os, sys
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

name = sys.argv[1]
uri = ObjectURI("ray_default", "local", "run", name)
with RayHook().connect() as hook:
    hook.submit(lambda: "made by " + name, uri=uri)
    hook.wait(uri)
"""

READ = """
import sys
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

print(RayHook().get(ObjectURI("ray_default", "local", "run", sys.argv[1])))
"""

WITHOUT_TOKEN = """
import ray, sys
from airflow_ray.client.connection import local_head

ray.init(local_head.running().address)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory):
    """The environment of processes that share one local head, which is stopped at the end."""
    folder = tmp_path_factory.mktemp("local-head")
    environment = {
        **os.environ,
        "AIRFLOW_CONN_RAY_DEFAULT": CONNECTION,
        "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(folder),
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "500000000",
    }
    yield environment
    command(environment, "stop")


def command(environment: dict[str, str], verb: str) -> str:
    arguments = [sys.executable, "-m", "airflow_ray.hooks.local_head", verb]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout


def in_own_process(environment: dict[str, str], script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heads(environment: dict[str, str]) -> list[psutil.Process]:
    """Return the processes of Ray's control service that belong to the folder's head."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != "gcs_server":
            continue
        # One of another test may be ending.
        with suppress(psutil.Error):
            token_path = process.environ().get("RAY_AUTH_TOKEN_PATH", "")
            if token_path.startswith(environment["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"]):
                found.append(process)
    return found


@pytest.fixture
def running(environment):
    """The environment, with a head that runs."""
    if not heads(environment):
        in_own_process(environment, TASK, "any").wait()
    return environment


def test_six_tasks_that_start_at_once_share_one_head(environment):
    tasks = [in_own_process(environment, TASK, str(i)) for i in range(6)]
    errors = [task.communicate()[1] for task in tasks if task.wait()]
    assert errors == []
    assert len(heads(environment)) == 1


def test_objects_stay_when_the_tasks_have_ended(environment):
    in_own_process(environment, TASK, "early").wait()
    reader = in_own_process(environment, READ, "early")
    assert reader.communicate()[0].strip() == "made by early"


def test_head_refuses_a_driver_without_its_token(running):
    stranger = in_own_process({**running, "RAY_AUTH_MODE": "disabled"}, WITHOUT_TOKEN)
    _, errors = stranger.communicate()
    assert stranger.returncode != 0
    assert "Unauthenticated" in errors


def test_only_this_user_can_read_the_token(running):
    folder = Path(running["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600


def test_stop_leaves_no_process_and_the_next_task_starts_a_new_head(running):
    (old,) = heads(running)
    session = psutil.Process(old.ppid())
    family = [session, *session.children(recursive=True)]
    assert command(running, "stop").strip() == "stopped"
    _, alive = psutil.wait_procs(family, 300)
    assert alive == []
    assert in_own_process(running, TASK, "later").wait() == 0


def test_head_that_was_killed_is_replaced_with_nothing_left_of_it(running):
    (old,) = heads(running)
    state = Path(running["AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"], "head.json")
    old_folder = Path(json.loads(state.read_text())["temp_dir"])
    psutil.Process(old.ppid()).kill()
    old.kill()
    assert in_own_process(running, TASK, "later").wait() == 0
    assert not old_folder.exists()


def test_port_of_the_client_server_is_written_down(running):
    assert "client_port=" in command(running, "status")


def test_local_head_and_a_remote_cluster_work_from_one_process(environment, head: RayHead):
    script = TASK + (
        "with RayHook('ray_client').connect() as remote:\n"
        "    remote.put(1, uri=ObjectURI('ray_client', 'd', 'r', 't'))\n"
    )
    task = in_own_process({**environment, "AIRFLOW_CONN_RAY_CLIENT": head.client_uri}, script, "both")
    assert task.wait() == 0, task.stderr.read()


MAKE_MODIN = """
import sys
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

def make():
    import modin.pandas as pd
    return pd.DataFrame({"a": [1, 2]})

uri = ObjectURI("ray_default", "local", "run", "modin")
with RayHook().connect() as hook:
    hook.submit(make, uri=uri)
    hook.wait(uri)
    print(type(hook.get(uri)).__module__)
"""


def test_modin_frame_is_one_in_the_process_that_reads_it(running):
    reader = in_own_process(running, MAKE_MODIN)
    assert reader.communicate()[0].splitlines()[-1] == "modin.pandas.dataframe"
