"""Token and keys of a driver lie in files that go with its process, however that ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_ray.client.connection import process_files

MAKES_A_FOLDER = """
import sys
from airflow_ray.client.connection.process_files import folder_of_process

with folder_of_process() as folder:
    (folder / "token").write_text("secret")
    print(folder, flush=True)
    sys.stdin.read()
"""

# As Airflow's supervisor does for each task: what was registered before the fork is forgotten.
FORKS_A_TASK = """
import atexit, os, sys
from airflow_ray.client.connection.process_files import folder_of_process

before = folder_of_process()
before.__enter__()
child = os.fork()
if not child:
    atexit._clear()
    folder_of_process().__enter__()
    atexit._run_exitfuncs()
    os._exit(0)
os.waitpid(child, 0)
print(*os.listdir(sys.argv[1]), flush=True)
"""


@pytest.fixture(autouse=True)
def temp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of these tests alone, also for processes that they start."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with such a folder, and the folder."""
    command = [sys.executable, "-c", MAKES_A_FOLDER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_only_this_user_can_enter_the_folder():
    with process_files.folder_of_process() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folder_of_a_killed_process_goes_when_the_next_makes_one(other):
    process, folder = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "token").exists()
    with process_files.folder_of_process():
        assert not folder.exists()


def test_folder_of_a_process_that_runs_stays(other):
    _, folder = other
    with process_files.folder_of_process():
        assert (folder / "token").exists()


def test_forked_task_removes_its_own_folder_and_not_that_of_its_parent(temp_dir):
    listed = subprocess.run(
        [sys.executable, "-c", FORKS_A_TASK, str(temp_dir)], capture_output=True, text=True, check=True
    )
    (left,) = listed.stdout.split()
    assert left.startswith(process_files.PREFIX)
    assert not (temp_dir / left).exists()


def test_link_with_the_name_of_such_a_folder_is_not_followed(temp_dir, other):
    process, folder = other
    process.kill()
    process.wait()
    chosen = temp_dir / "chosen"
    chosen.mkdir()
    (chosen / "kept").touch()
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    os.symlink(chosen, folder)
    with process_files.folder_of_process():
        assert (chosen / "kept").exists()
