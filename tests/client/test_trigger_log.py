"""What becomes of lines where a triggerer dies: triggers that run, log files, and a cluster that is only noted."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from airflow_ray import triggers
from airflow_ray.client import deferral, trigger_log, watcher
from airflow_ray.client.connection.opening import OPENERS
from airflow_ray.client.trigger_log import TriggerLog
from airflow_ray.triggers import RayObjectTrigger

URI = "ray-object://ray_here/dag/run/task/-1/return_value"
# The third looks like what a line of another number has.
LINES = ["first", 'second "chan":"output', '"chan": "output w 900"', *(f"line {number}" for number in range(4, 500))]


class FakeCluster:
    """Work that has written its lines, and ends when they are read."""

    def __init__(self) -> None:
        self.read_offset = 0
        self.levels = ""

    @contextmanager
    def open_session(self, settings):
        yield self

    def begin(self, method, watcher_id, asked, interval):
        news = None
        for _, _, offset in asked:
            self.read_offset = self.read_offset if offset is None else offset
            lines = LINES[self.read_offset : self.read_offset + 300]
            end = self.read_offset + len(lines)
            news = {"state": "SUCCEEDED", "ended": end == len(LINES), "lines": lines, "offset": end, "skipped": 0}
            news["levels"] = self.levels[self.read_offset : end]
        future: Future = Future()
        future.set_result([news] * len(asked))
        return future

    def call(self, method, *args):
        return None


class Triggerer:
    """The log of a trigger, of which the process that writes the file writes so many lines before it is killed."""

    def __init__(self, path, number: int, writes: float = float("inf")) -> None:
        self.path = path.with_name(f"{path.name}.trigger.{number}.log")
        self.writes = writes
        self.stalled = asyncio.Event()

    def info(self, text, **fields):
        self.write("info", text, **fields)

    def warning(self, text, **fields):
        self.write("warning", text, **fields)

    def error(self, text, **fields):
        self.write("error", text, **fields)

    def write(self, level, text, **fields):
        if self.writes:
            self.writes -= 1
            with self.path.open("a") as file:
                file.write(json.dumps({"event": text, "level": level, **fields}) + "\n")
        else:
            self.stalled.set()

    def shown(self, field: str = "event") -> list[str]:
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [event[field] for event in events if event.get("chan", "").startswith("output")]


@pytest.fixture
def cluster(monkeypatch):
    cluster = FakeCluster()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here")
    monkeypatch.setitem(OPENERS, "client", cluster.open_session)
    monkeypatch.setattr(watcher, "MIN_SECONDS_BETWEEN_CALLS", 0.0)
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)
    yield cluster
    watcher.stop_all()


@pytest.fixture
def path(monkeypatch, tmp_path):
    path = tmp_path / "attempt=1.log"
    monkeypatch.setattr(triggers, "trigger_log_path", lambda ti: path)
    return path


async def run_trigger(log: Triggerer, resume=None) -> dict:
    trigger = RayObjectTrigger([URI], holder="holder", resume=resume)
    trigger._log = log
    return (await anext(trigger.run())).payload


async def run_killed(log: Triggerer, resume=None) -> None:
    running = asyncio.create_task(run_trigger(log, resume))
    await asyncio.wait_for(log.stalled.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("written", [1, 2, 4, 150, 201, 320])
def test_triggerer_that_is_killed_costs_no_line_and_repeats_none(cluster, path, written):
    async def test():
        await run_killed(killed := Triggerer(path, 1, written))
        # Where the next triggerer runs on another machine, it knows no more than this.
        assert cluster.read_offset <= len(killed.shown())
        event = await run_trigger(following := Triggerer(path, 2))
        assert killed.shown() + following.shown() == LINES
        assert (event["status"], event["offset"]) == (triggers.ENDED, len(LINES))

    asyncio.run(test())


def test_each_line_has_its_level_whichever_triggerer_shows_it(cluster, path):
    cluster.levels = ("IWE" * len(LINES))[: len(LINES)]

    async def test():
        await run_killed(killed := Triggerer(path, 1, 150))
        await run_trigger(following := Triggerer(path, 2))
        levels = {"I": "info", "W": "warning", "E": "error"}
        assert killed.shown("level") + following.shown("level") == [levels[letter] for letter in cluster.levels]
        assert killed.shown() + following.shown() == LINES

    asyncio.run(test())


def test_lines_of_work_that_was_submitted_again_are_counted_anew(cluster, path):
    async def test():
        await run_killed(Triggerer(path, 1, 150), {"submissions": 1})
        cluster.read_offset = 0
        await run_trigger(again := Triggerer(path, 2), {"submissions": 2})
        assert again.shown() == LINES

    asyncio.run(test())


def test_trigger_whose_log_is_no_file_here_shows_all_the_same(cluster, path, monkeypatch):
    monkeypatch.setattr(trigger_log, "FIND_SECONDS", 0.0)

    async def test():
        shown = []
        trigger = RayObjectTrigger([URI], holder="holder")
        trigger._log = type("Log", (), {"info": lambda self, text, **_: shown.append(text)})()
        await anext(trigger.run())
        assert shown[1:] == LINES

    asyncio.run(test())


def test_line_that_was_written_in_part_counts_as_not_written(path):
    async def test():
        log = Triggerer(path, 1)
        earlier = TriggerLog(path, "w")
        log.info("one", **earlier.channel(1))
        with log.path.open("a") as file:
            file.write(json.dumps({**earlier.channel(2), "event": "two"}))
        assert await TriggerLog(path, "w").begin(Triggerer(path, 2).info) == 1

    asyncio.run(test())


def test_long_lines_hide_no_number(path):
    async def test():
        log = Triggerer(path, 1)
        log.info("one", **TriggerLog(path, "w").channel(1))
        log.info("x" * 10 * trigger_log.TAIL_BYTES)
        assert await TriggerLog(path, "w").begin(Triggerer(path, 2).info) == 1

    asyncio.run(test())
