"""What is measured of a callable: its own peak and that of its children, and nothing of what came before."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private.thirdparty import pynvml

from airflow_ray.cluster.protocol import Used
from airflow_ray.cluster.worker import meter
from airflow_ray.cluster.worker.meter import Meter

BYTES = 200_000_000
# Of what else the process does meanwhile.
SLACK = 50_000_000
HOLDS = f"data = b'x' * {BYTES}; print('ready', flush=True); input()"
COMPUTES = "import time\nwhile time.process_time() < 0.5: pass\nprint('ready', flush=True); input()"


def used_by(function: Callable[[], Any], gpus: list[str] | None = None) -> Used:
    with Meter(gpus or []) as measured:
        function()
    return measured.used


def memory_of(function: Callable[[], Any]) -> int:
    memory = used_by(function)["memory"]
    assert memory is not None
    return memory


def fill_for_a_moment() -> None:
    b"x" * BYTES


def started(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


@pytest.fixture
def idle() -> int:
    """What a callable uses that does nothing."""
    return memory_of(lambda: None)


def test_peak_that_lasts_for_a_moment_is_known(idle):
    assert memory_of(fill_for_a_moment) > idle + BYTES - SLACK


def test_peak_is_not_that_of_the_work_before_in_the_same_process(idle):
    memory_of(fill_for_a_moment)
    assert memory_of(lambda: None) < idle + SLACK


def test_memory_of_a_child_counts(idle):
    children = []
    assert memory_of(lambda: children.append(started(HOLDS))) > idle + BYTES - SLACK
    children[0].communicate()


def test_peak_that_lasts_for_a_moment_counts_beside_a_child(idle):
    child = started(HOLDS)
    assert memory_of(fill_for_a_moment) > idle + 2 * BYTES - SLACK
    child.communicate()


def test_memory_of_a_child_that_has_ended_counts_if_it_lasted(idle, monkeypatch):
    looks = []
    look = Meter._look
    monkeypatch.setattr(Meter, "_look", lambda self: (look(self), looks.append(1)))

    def run_child():
        child = started(HOLDS)
        before = len(looks)
        while len(looks) < before + 2:
            time.sleep(0.01)
        child.communicate()

    assert memory_of(run_child) > idle + BYTES - SLACK


def test_what_a_fork_shares_with_its_parent_counts_once(idle):
    data, forks = [], []

    def fork():
        data.append(b"x" * BYTES)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        forks.append((pid, write))

    assert memory_of(fork) < idle + 2 * BYTES - SLACK
    ((pid, write),) = forks
    os.close(write)
    os.waitpid(pid, 0)


def test_memory_that_is_shared_as_the_object_store_is_does_not_count(idle):
    shared = mmap.mmap(-1, BYTES)

    def touch():
        shared.write(b"x" * 1024 * 1024 * (BYTES // 1024 // 1024))

    touch()
    shared.seek(0)

    def read():
        for start in range(0, BYTES, 4096):
            shared[start]

    assert memory_of(read) < idle + SLACK


@pytest.mark.parametrize("ends", [True, False], ids=["child that has ended", "child that lives"])
def test_cpu_of_a_child_counts(ends):
    children = []

    def run_child():
        children.append(started(COMPUTES))
        if ends:
            children[0].communicate()

    assert used_by(run_child)["cpu_seconds"] > 0.4
    children[0].communicate()


def test_cpu_of_a_child_that_began_before_does_not_count():
    child = started(COMPUTES)
    assert used_by(child.communicate)["cpu_seconds"] < 0.4


def test_children_are_left_to_whoever_waits_for_them():
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    used_by(lambda: time.sleep(0.2))
    assert child.wait() == 3


def test_without_the_kernels_files_no_memory_is_told(monkeypatch):
    monkeypatch.setattr(meter, "sizes", lambda pid: {})
    monkeypatch.setattr(meter, "descendants", list)
    used = used_by(lambda: None)
    assert (used["memory"], used["gpu_memory"]) == (None, None)


@pytest.mark.parametrize("names", [["0", "1"], ["GPU-5f2e", "GPU-77ab"]], ids=["numbers", "ids"])
def test_memory_of_all_gpus_of_the_task_is_told(monkeypatch, names):
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: str(number))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name)
    in_use = dict.fromkeys(names, 5)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda device: SimpleNamespace(used=in_use[device], total=16)
    )
    measured = Meter(names)
    with measured:
        measured._gpus.look()
        in_use[names[0]] = 1
    assert (measured.used["gpu_memory"], measured.used["gpu_total"]) == (10, 32)


def test_gpu_without_a_driver_has_no_figure():
    measured = Meter(["0"])
    with measured:
        measured._gpus.look()
    assert (measured.used["gpu_memory"], measured.used["gpu_total"]) == (None, None)
