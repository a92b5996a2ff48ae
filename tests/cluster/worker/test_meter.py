"""What is measured of a callable: its own peak and that of its children, and nothing of what came before."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private.thirdparty import pynvml

from airflow_ray.cluster.protocol import Used
from airflow_ray.cluster.worker import meter
from airflow_ray.cluster.worker.meter import Meter
from airflow_ray.cluster.worker.process_numbers import take_peak

ROOT = Path(__file__).parents[3]
BYTES = 200_000_000
# Of what else the process does meanwhile.
SLACK = 50_000_000
HOLDS = f"data = b'x' * {BYTES}; print('ready', flush=True); input()"
COMPUTES = "import time\nwhile time.process_time() < {}: pass\nprint('ready', flush=True); input()"


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


def idle() -> int:
    """Return what a callable uses that does nothing."""
    return memory_of(lambda: None)


def peak_that_lasts_for_a_moment_is_known() -> None:
    assert memory_of(fill_for_a_moment) > idle() + BYTES - SLACK


def peak_is_not_that_of_the_work_before_in_the_same_process() -> None:
    before = idle()
    memory_of(fill_for_a_moment)
    assert idle() < before + SLACK


def peak_of_another_thread_is_in_a_reading_whenever_it_comes() -> None:
    peaks: SimpleQueue[int] = SimpleQueue()
    has_ended = threading.Event()

    def read_on() -> None:
        while not has_ended.is_set():
            peaks.put(take_peak()["VmHWM"])

    reader = threading.Thread(target=read_on)
    reader.start()
    highest = []
    for _ in range(30):
        fill_for_a_moment()
        # One reading may have begun before that.
        highest.append(max(peaks.get() for _ in range(peaks.qsize() + 2)))
    has_ended.set()
    reader.join()
    assert min(highest) > BYTES, highest


def memory_of_a_child_counts() -> None:
    before, children = idle(), []
    assert memory_of(lambda: children.append(started(HOLDS))) > before + BYTES - SLACK
    children[0].communicate()


def peak_that_lasts_for_a_moment_counts_beside_a_child() -> None:
    before, child = idle(), started(HOLDS)
    assert memory_of(fill_for_a_moment) > before + 2 * BYTES - SLACK
    child.communicate()


def memory_of_a_child_that_has_ended_counts_if_it_lasted() -> None:
    before, looks, look = idle(), [], Meter._look

    def counted(measured: Meter) -> None:
        look(measured)
        looks.append(1)

    Meter._look = counted

    def run_child() -> None:
        child = started(HOLDS)
        begun = len(looks)
        while len(looks) < begun + 2:
            time.sleep(0.01)
        child.communicate()

    assert memory_of(run_child) > before + BYTES - SLACK


def what_a_fork_shares_with_its_parent_counts_once() -> None:
    before, data, forks = idle(), [], []

    def fork() -> None:
        data.append(b"x" * BYTES)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        forks.append((pid, write))

    assert memory_of(fork) < before + 2 * BYTES - SLACK
    ((pid, write),) = forks
    os.close(write)
    os.waitpid(pid, 0)


def memory_that_is_shared_as_the_object_store_is_does_not_count() -> None:
    before, shared = idle(), mmap.mmap(-1, BYTES)

    def touch() -> None:
        shared.write(b"x" * 1024 * 1024 * (BYTES // 1024 // 1024))

    touch()
    shared.seek(0)

    def read() -> None:
        for start in range(0, BYTES, 4096):
            shared[start]

    assert memory_of(read) < before + SLACK


CHECKS = (
    peak_that_lasts_for_a_moment_is_known,
    peak_is_not_that_of_the_work_before_in_the_same_process,
    peak_of_another_thread_is_in_a_reading_whenever_it_comes,
    memory_of_a_child_counts,
    peak_that_lasts_for_a_moment_counts_beside_a_child,
    memory_of_a_child_that_has_ended_counts_if_it_lasted,
    what_a_fork_shares_with_its_parent_counts_once,
    memory_that_is_shared_as_the_object_store_is_does_not_count,
)


@pytest.mark.parametrize("name", [check.__name__ for check in CHECKS])
def test_of_memory(name):
    # In a process of its own: that of the tests gives back some hundred megabytes at any time.
    code = f"from tests.cluster.worker import test_meter; test_meter.{name}()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("ends", [True, False], ids=["child that has ended", "child that lives"])
def test_cpu_of_a_child_counts(ends):
    children = []

    def run_child():
        children.append(started(COMPUTES.format(0.5)))
        if ends:
            children[0].communicate()

    assert used_by(run_child)["cpu_seconds"] > 0.4
    children[0].communicate()


def test_cpu_of_a_child_that_began_before_does_not_count():
    child = started(COMPUTES.format(5))
    # On a busy machine the end of a process alone takes its time.
    assert used_by(child.communicate)["cpu_seconds"] < 4


def test_children_are_left_to_whoever_waits_for_them():
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    used_by(lambda: time.sleep(0.2))
    assert child.wait() == 3


def test_without_the_kernels_files_no_memory_is_told(monkeypatch):
    monkeypatch.setattr(meter, "take_peak", dict)
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
