"""Records: what is kept of their logs, what they show, and when they expire."""

from __future__ import annotations

import asyncio

import pytest

from airflow_ray.cluster.owner import records, waiting
from airflow_ray.cluster.owner.log_buffer import LogBuffer
from airflow_ray.cluster.owner.record import Record
from tests.cluster.owner.fakes import FakeOwner, run, until

LINE = "x" * 99


async def _with_log(owner: FakeOwner, record_id: str, lines: int) -> Record:
    await owner.submit(record_id)
    record = owner.records.get(record_id)
    for _ in range(lines // 100):
        assert await owner.waiting.append_log(record, [LINE] * 100)
    owner.ray.tasks[-1].end(return_value="ref")
    await until(lambda: record.finished)
    return record


def test_of_work_that_airflow_knows_the_end_of_only_the_last_lines_are_kept():
    async def test() -> None:
        owner = FakeOwner()
        record = await _with_log(owner, "d/r/t/-1", 10_000)
        owner.records.shorten_log(record)
        lines, _, offset, skipped = record.log.read(0)
        assert (len(lines) * len(LINE) <= records.TAIL_BYTES, offset, len(lines) + skipped) == (True, 10_000, 10_000)

    run(test())


def test_logs_of_work_that_has_ended_give_way_to_others(monkeypatch):
    async def test() -> None:
        monkeypatch.setattr(records, "MAX_LOG_BYTES", 150_000)
        owner = FakeOwner()
        first = await _with_log(owner, "d/r/first/-1", 1000)
        second = await _with_log(owner, "d/r/second/-1", 1000)
        assert (first.log.bytes, second.log.bytes) == (0, 1000 * (len(LINE) + 1))

    run(test())


def test_lines_of_a_runner_whose_record_was_replaced_go_nowhere():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        before = owner.records.get("d/r/t/-1")
        await owner.submit("d/r/t/-1")
        assert not await owner.waiting.append_log(before, [LINE])

    run(test())


@pytest.mark.parametrize(("limit", "kept"), [(5, []), (6, ["ccccc"]), (12, ["bbbbb", "ccccc"])])
def test_tail_of_one_long_batch_is_bounded_too(limit, kept):
    log = LogBuffer()
    log.append(["aaaaa", "bbbbb", "ccccc"])
    log.keep_tail(limit)
    assert (log.read(0)[0], log.end, log.bytes) == (kept, 3, 6 * len(kept))


def test_levels_stay_with_their_lines_wherever_one_reads_and_whatever_was_dropped():
    log = LogBuffer(max_bytes=14)
    log.append(["aaaaa", "bbbbb"], "EW")
    log.append(["ccccc", "ddddd"], "CI")
    # Of whoever tells no levels.
    log.append(["e"])
    assert log.read(3) == (["ddddd", "e"], "II", 5, 0)
    assert log.read(0) == (["ccccc", "ddddd", "e"], "CII", 5, 2)
    log.keep_tail(6)
    assert log.read(0).levels == "I" * len(log.read(0).lines)


def test_empty_lines_take_room_too():
    log = LogBuffer(max_bytes=10)
    for _ in range(100):
        log.append(["", ""])
    assert (log.read(0), log.bytes) == ((10 * [""], "I" * 10, 200, 190), 10)


def test_nothing_that_comes_again_and_again_leaves_nothing():
    log = LogBuffer()
    for _ in range(100):
        log.append([])
    log.append(["a"])
    assert (log.bytes, len(log._batches)) == (2, 1)


def test_record_shows_no_environment():
    options = {"runtime_env": {"env_vars": {"TOKEN": "secret"}}}
    record = Record("d/r/t/-1", "attempt", options, checkpoint={"keys": "secret"}, storage={"options": "secret"})
    assert "secret" not in repr(record)


def test_record_that_is_used_while_its_end_is_due_stays():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.adopt("d/r/t/-1", "key", ["ref"], [], {}, 0.05)
        record = owner.records.get("d/r/t/-1")
        async with owner.records.lock("d/r/t/-1"):
            await asyncio.sleep(0.1)
            record.ttl = 60.0
            record.note_used()
        await asyncio.sleep(0)
        assert owner.records.get("d/r/t/-1") is record

    run(test())


def test_lines_that_waited_for_a_slow_follower_go_nowhere_when_the_record_is_replaced():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        before = owner.records.get("d/r/t/-1")
        before.note_read(0)
        for _ in range(waiting.MAX_UNREAD_BYTES // 100_000 + 1):
            await owner.waiting.append_log(before, ["x" * 100_000])
        blocked = asyncio.create_task(owner.waiting.append_log(before, ["late"]))
        await asyncio.sleep(0)
        await owner.submit("d/r/t/-1")
        assert [await blocked, "late" in before.log.read(0, 10_000_000)[0]] == [False, False]

    run(test())


def test_lines_that_come_at_once_drop_none_that_a_follower_has_not_read():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        record = owner.records.get("d/r/t/-1")
        record.note_read(0)
        written = [f"{number:099}" for number in range(60_000)]
        await owner.waiting.append_log(record, written[:1000], "E" * 1000)
        rest = written[1000:]
        writing = asyncio.create_task(owner.waiting.append_log(record, rest, "E" * len(rest)))
        await asyncio.sleep(0)
        read, offset = [], 0
        while len(read) < len(written):
            answer = await owner.waiting.poll("d/r/t/-1", offset, 10.0)
            assert (answer["skipped"], set(answer["levels"])) == (0, {"E"})
            offset = answer["offset"]
            read += answer["lines"]
        assert (read, await writing) == (written, True)

    run(test())


def test_shorter_time_to_live_counts_at_once():
    async def test() -> None:
        owner = FakeOwner()
        await owner.submissions.adopt("d/r/t/-1", "first", ["ref"], [], {}, 3600.0)
        await owner.submissions.adopt("d/r/t/-1", "second", ["ref"], [], {}, 0.01)
        await until(lambda: owner.records.get("d/r/t/-1") is None)

    run(test())


def test_follower_of_a_longer_log_hears_of_the_end():
    async def test() -> None:
        owner = FakeOwner()
        await _with_log(owner, "d/r/t/-1", 100)
        assert "record" in await owner.waiting.poll("d/r/t/-1", 1000, 5.0)

    run(test())


def test_log_that_a_person_has_read_stays_for_its_follower():
    async def test() -> None:
        owner = FakeOwner()
        record = await _with_log(owner, "d/r/t/-1", 10_000)
        await owner.waiting.poll("d/r/t/-1", 10_000, 0.0)
        assert record.log.bytes == 10_000 * (len(LINE) + 1)

    run(test())


def test_actors_of_work_end_when_it_is_released_and_not_before():
    async def test():
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        record = owner.records.get("d/r/t/-1")
        assert await owner.records.take_belonging("d/r/t/-1", record.attempt, "actors", b"actor")
        owner.ray.tasks[-1].end(return_value="ref")
        await owner.ended("d/r/t/-1")
        assert owner.ray.ended_actors == []
        await owner.records.discard("d/r/t/-1")
        assert owner.ray.ended_actors == [b"actor"]

    run(test())


def test_actor_of_work_that_was_cancelled_meanwhile_is_not_kept():
    async def test():
        owner = FakeOwner()
        await owner.submit("d/r/t/-1")
        attempt = owner.records.get("d/r/t/-1").attempt
        await owner.submissions.cancel("d/r/t/-1", None)
        assert not await owner.records.take_belonging("d/r/t/-1", attempt, "actors", b"actor")

    run(test())


def test_last_lines_of_work_that_has_ended_stay_for_who_follows_it(monkeypatch):
    async def test() -> None:
        monkeypatch.setattr(records, "MAX_LOG_BYTES", 150_000)
        owner = FakeOwner()
        followed = await _with_log(owner, "d/r/followed/-1", 500)
        followed.note_read(0)
        await owner.submit("d/r/running/-1")
        running = owner.records.get("d/r/running/-1")
        for _ in range(20):
            assert await owner.waiting.append_log(running, [LINE] * 100)
        assert followed.log.read(0).lines[-1] == LINE
        assert followed.log.bytes + running.log.bytes <= 150_000

    run(test())


def test_line_after_line_is_kept_as_few_batches():
    log = LogBuffer()
    for number in range(10_000):
        log.append([str(number)], "E" if number % 2 else "I")
    assert len(log._batches) < 10
    part = log.read(9_990)
    assert (part.lines, part.levels) == ([str(number) for number in range(9_990, 10_000)], "IE" * 5)


@pytest.mark.parametrize(("offset", "unread"), [(0, 30), (1, 25), (3, 15), (6, 0), (7, 0)])
def test_unread_is_what_comes_behind_the_offset_also_within_a_batch(offset, unread):
    log = LogBuffer()
    for _ in range(3):
        log.append(["aaaa", "bbbb"])
    assert log.unread_bytes(offset) == unread
