"""An object store, a folder for what is spilled, and a disk that are full, and clocks that are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.checkpointing import connection_of
from tests.faults.cases import Told
from tests.faults.chain import Chain, Outcome
from tests.faults.task import expected
from tests.ray_head import RayHead

MEGABYTE = 1_000_000
# Less than two copies of what a chain makes.
SMALL_STORE_BYTES = 90 * MEGABYTE
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)

STORE = Told("Object store full", "before", "Ray spills to disk, and the log says so.")
SPILLED = Told(
    "Folder for spilled objects full",
    "call",
    "The task fails and says that there is no room; once objects are released, the next one works.",
)
CHECKPOINTS = Told(
    "Disk of the checkpoints full",
    "checkpoint",
    "The task fails and says that the storage has no room; nothing half-written counts as a checkpoint.",
)
DISK = Told("Disk of the head full", "call", "Work and objects, which are in memory, do not notice.")
HOSTS = {"airflow": "the Airflow worker", "head": "the head"}
HOURS = {"forward": 2, "back": -2}
CLOCKS = {
    (where, way): Told(f"Clock of {host} set {abs(hours)} hours {way}", "call", "Nothing.")
    for where, host in HOSTS.items()
    for way, hours in HOURS.items()
}
CASES = [STORE, SPILLED, CHECKPOINTS, DISK, *CLOCKS.values()]


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"No file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(folder: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(folder)], check=True)


@contextmanager
def head_with(object_store_bytes: int = 1_000_000_000, **environment: str) -> Iterator[RayHead]:
    head = RayHead(object_store_bytes=object_store_bytes, **environment)
    try:
        yield head
    finally:
        head.stop()


def chain_on(head: RayHead, folder: Path, environment: dict[str, str] | None = None, **options: Any) -> Chain:
    connection = json.loads(connection_of(head, "gateway"))
    connection["extra"]["connect_timeout"] = "300"
    return Chain(folder, {"AIRFLOW_CONN_RAY_FAULTS": json.dumps(connection), **(environment or {})}, **options)


def ended(chain: Chain, moment: str | None = None, strike: Callable[[], None] = lambda: None) -> Outcome:
    """Run a chain to its end, and see that nothing of it is left running."""
    outcome = chain.run(moment, strike)
    assert chain.left_running() == []
    return outcome


def extra_seconds(outcome: Outcome, chain: Chain, usual: tuple[Chain, Outcome], moment: str) -> float:
    before = usual[0].seconds_after(usual[1])[moment]
    return max(0.0, chain.seconds_after(outcome)[moment] - before)


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
def test_full_object_store_is_spilled_and_told(tmp_path: Path, measured: Callable[[Told, float], None]) -> None:
    with head_with(SMALL_STORE_BYTES) as head:
        usual = chain_on(head, tmp_path / "without")
        without = ended(usual)
        # What they make stays.
        kept = [chain_on(head, tmp_path / f"kept-{number}") for number in range(3)]
        for each in kept:
            assert each.run(None, lambda: None).returned == expected()
        chain = chain_on(head, tmp_path / "with")
        outcome = ended(chain)
    assert outcome.returned == expected(), outcome.log
    assert outcome.runs == {"make": 1, "use": 1}
    assert "object store of the Ray cluster was full" in outcome.log
    cost = extra_seconds(outcome, chain, (usual, without), "before")
    measured(STORE, cost)


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
def test_full_folder_of_what_is_spilled_fails_the_task_and_the_next_one_works(
    tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    with ExitStack() as stack:
        spilled = stack.enter_context(disk(tmp_path / "spilled", 30))
        config = {"type": "filesystem", "params": {"directory_path": str(spilled)}}
        head = stack.enter_context(head_with(SMALL_STORE_BYTES, RAY_object_spilling_config=json.dumps(config)))
        kept, outcome = [], None
        for number in range(8):
            chain = chain_on(head, tmp_path / f"chain-{number}")
            outcome = chain.run(None, lambda: None)
            if outcome.returned is None:
                break
            assert outcome.returned == expected()
            kept.append(chain)
        assert outcome is not None
        assert outcome.returned is None
        assert "is full" in outcome.log, outcome.log
        assert chain.left_running() == []
        for each in kept:
            each.left_running()
        begun = time.time()
        assert ended(chain_on(head, tmp_path / "after")).returned == expected()
    measured(SPILLED, time.time() - begun)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_checkpoint_on_a_full_disk_fails_the_task_and_the_next_one_writes_it(
    tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    with disk(tmp_path / "checkpoints", 5) as folder, head_with() as head:
        options = {"checkpoint": True, "checkpoint_path": f"file://{folder}"}
        outcome = ended(chain_on(head, tmp_path / "full", **options))
        assert (outcome.returned, outcome.tries["make"]) == (None, 3)
        assert "RayCheckpointStorageError" in outcome.log
        assert "has room" in outcome.log
        assert [*folder.rglob("manifest.json")] == []
        resize(folder, 200)
        begun = time.time()
        assert ended(chain_on(head, tmp_path / "room", **options)).returned == expected()
        assert len([*folder.rglob("manifest.json")]) == 2
    measured(CHECKPOINTS, time.time() - begun)


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
def test_full_disk_of_the_head_disturbs_no_work_that_needs_none(
    tmp_path: Path, measured: Callable[[Told, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        # Ray's sockets lie there: their path may not be long.
        short = Path(stack.enter_context(_short_folder()))
        monkeypatch.setattr("tempfile.tempdir", str(stack.enter_context(disk(short, 300))))
        head = stack.enter_context(head_with())
        usual = chain_on(head, tmp_path / "without")
        without = ended(usual)
        chain = chain_on(head, tmp_path / "with")
        outcome = ended(chain, "call", lambda: _fill(short))
        (short / "filler").unlink()
    assert outcome.returned == expected(), outcome.log
    assert outcome.runs == {"make": 1, "use": 1}
    cost = extra_seconds(outcome, chain, (usual, without), "call")
    measured(DISK, cost)


def _fill(folder: Path) -> None:
    with (folder / "filler").open("wb") as file:
        try:
            while True:
                file.write(bytes(MEGABYTE))
                file.flush()
        except OSError:
            pass


@contextmanager
def _short_folder() -> Iterator[str]:
    folder = Path("/tmp", f"faults-{os.getpid()}")
    folder.mkdir()
    try:
        yield str(folder)
    finally:
        folder.rmdir()


@pytest.mark.only_faults
@pytest.mark.timeout(2400)
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed, and no namespace has a clock of its own")
@pytest.mark.parametrize("way", HOURS)
@pytest.mark.parametrize("where", HOSTS)
def test_clock_that_is_set_disturbs_nothing(
    where: str, way: str, tmp_path: Path, measured: Callable[[Told, float], None]
) -> None:
    if where == "head" and sys.version_info >= (3, 11):
        pytest.skip("with libfaketime that leaves the monotonic clock alone, time.sleep of Python 3.11 fails")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    options = {"checkpoint": True, "checkpoint_path": f"file://{tmp_path}/checkpoints"}
    with head_with(**(faked if where == "head" else {})) as head:
        environment = faked if where == "airflow" else {}
        usual = chain_on(head, tmp_path / "without", environment, **options)
        without = ended(usual)
        chain = chain_on(head, tmp_path / "with", environment, **options)
        outcome = ended(chain, "call", lambda: _set(clock, HOURS[way]))
    assert outcome.returned == expected(), outcome.log
    assert outcome.runs == {"make": 1, "use": 1}
    cost = max(0.0, outcome.ended - outcome.struck - usual.seconds_after(without)["call"])
    measured(CLOCKS[where, way], cost)


def _set(clock: Path, hours: int) -> None:
    clock.write_text(f"{hours:+d}h")
