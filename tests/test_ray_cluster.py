"""The real clusters of the tests leave nothing behind."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import await_file
from tools import ray_cluster


def runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The file with the process that the command of a head has started."""
    return tmp_path / "started"


def start(folder: Path, started: Path, end: str) -> None:
    command = folder / "python"
    command.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {started}\n{end}\n")
    command.chmod(0o700)
    ray_cluster.RayHead(python=str(command))


def test_head_that_fails_to_start_leaves_nothing(started, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError):
        start(tmp_path, started, "exit 1")
    assert not runs(int(started.read_text()))
    assert list(tmp_path.glob("ray-*")) == []


def test_head_that_has_started_goes_first_no_longer(head):
    niceness = {}
    for process in head.processes(""):
        for thread in process.threads():
            with suppress(ProcessLookupError):
                niceness[thread.id] = os.getpriority(os.PRIO_PROCESS, thread.id)
    assert set(niceness.values()) == {os.nice(0)}


def test_head_that_is_interrupted_while_it_starts_leaves_nothing(started, tmp_path, monkeypatch):
    def answers(_port):
        await_file(started)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ray_cluster, "answers", answers)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, started, "wait")
    assert not runs(int(started.read_text()))
    assert list(tmp_path.glob("ray-*")) == []
