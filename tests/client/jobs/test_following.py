"""What a follower of a job shows and when it ends, against a dashboard that does what it is told."""

from __future__ import annotations

import asyncio

import pytest

from airflow_ray.client.jobs import following
from airflow_ray.client.jobs.following import JobFollower
from airflow_ray.client.jobs.jobs import open_dashboard
from airflow_ray.client.jobs.output import MAX_LINE_CHARACTERS, LineReader
from airflow_ray.exceptions import RayAuthenticationError, RayConnectionError, RayJobLostError
from tests.client.jobs.fake_dashboard import FakeDashboard, Job


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(following, "AWAY_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(following, "FIRST_PAUSE_SECONDS", 0.05)


def followed(settings, job="job", shown=0, with_output=True):
    """Return the lines and the details that a follower yields, and the last status."""

    async def follow():
        lines, details = [], []
        with open_dashboard(settings) as dashboard:
            follower = JobFollower(dashboard, job, 0.1, with_output, shown)
            async for news in follower.news():
                lines += news.lines
                details += [news.detail] if news.detail else []
        return lines, details, follower.info["status"]

    return asyncio.run(follow())


def test_output_comes_whole_and_in_order(fake, settings):
    fake.jobs["job"] = Job(messages=["one\ntwo\n", "thr", "ee\n", "four"])
    assert followed(settings) == (["one", "two", "three", "four"], [], "SUCCEEDED")


def test_stream_that_breaks_off_goes_on_without_a_line_twice(fake, settings):
    fake.jobs["job"] = Job(messages=["one\n", "two\nth", "ree\nfour\n"], breaks_after=2)
    assert followed(settings)[0] == ["one", "two", "three", "four"]


def test_lines_that_are_known_are_left_out(fake, settings):
    fake.jobs["job"] = Job(messages=["one\ntwo\n", "three\n"])
    assert followed(settings, shown=2)[0] == ["three"]


@pytest.mark.parametrize(
    ("stored", "shown"), [(b"caf\xe9\nend\n", ["caf\ufffd", "end"]), (b"50%\r100%\rend", ["50%", "100%", "end"])]
)
def test_output_that_cannot_be_streamed_is_read_in_the_end(fake, settings, stored, shown):
    fake.has_sockets = False
    fake.jobs["job"] = Job(stored=stored, status="FAILED")
    assert followed(settings) == (shown, [], "FAILED")


def test_stream_that_ends_too_soon_as_if_it_were_whole_is_made_up_for(fake, settings):
    fake.jobs["job"] = Job(messages=["one\n"], stored=b"one\ncaf\xe9\nend")
    assert followed(settings)[0] == ["one", "caf\ufffd", "end"]


def test_stream_that_ends_too_soon_each_time_is_begun_less_and_less_often(fake, settings, monkeypatch):
    job = fake.jobs["job"] = Job(messages=["one\n"], stored=b"one\ncaf\xe9\n", end="RUNNING")
    asked = []

    def info():
        asked.append(job)
        if len(asked) == 40:
            job.status = "FAILED"
        return Job.info(job)

    monkeypatch.setattr(job, "info", info)
    assert followed(settings)[0] == ["one", "caf\ufffd"]
    assert len([path for _, path, _ in fake.asked if path.endswith("tail")]) < 10


def test_output_that_cannot_be_read_again_is_none_the_less_shown(fake, settings):
    fake.jobs["job"] = Job(messages=["one\ntwo"])
    fake.has_file = False
    assert followed(settings)[0] == ["one", "two"]


def test_without_output_the_status_alone_is_asked_for(fake, settings):
    fake.jobs["job"] = Job(messages=["one\n"], status="STOPPED")
    assert followed(settings, with_output=False) == ([], [], "STOPPED")
    assert [path for _, path, _ in fake.asked if "logs" in path] == []


def test_what_a_job_waits_for_is_told_once(fake, settings, monkeypatch):
    job = fake.jobs["job"] = Job(status="PENDING", message="It may be waiting for resources")
    asked = []

    def info():
        asked.append(job.status)
        if len(asked) == 4:
            job.status = "FAILED"
        return Job.info(job)

    monkeypatch.setattr(job, "info", info)
    assert followed(settings)[1:] == (["It may be waiting for resources"], "FAILED")


def test_dashboard_that_is_away_is_waited_for(fake, settings, caplog):
    fake.jobs["job"] = Job(messages=["one\n"])
    fake.refusals = [(502, "Bad Gateway"), (503, "Unavailable"), (404, "default backend - 404")]
    assert followed(settings) == (["one"], [], "SUCCEEDED")
    assert "The job goes on meanwhile. Trying again." in caplog.text


def test_dashboard_that_stays_away_is_an_error(fake, settings, monkeypatch):
    monkeypatch.setattr(following, "AWAY_SECONDS", 0.0)
    fake.refusals = [(502, "Bad Gateway")] * 100
    with pytest.raises(RayConnectionError, match="502"):
        followed(settings)


def test_job_that_is_not_known_is_lost(fake, settings):
    with pytest.raises(RayJobLostError, match="does not know the job job"):
        followed(settings)


def test_wrong_token_is_an_error_at_once(fake, settings):
    fake.token = "another"
    with pytest.raises(RayAuthenticationError, match="another token than the password"):
        followed(settings)


def test_token_that_is_asked_for_goes_with_the_stream_too(fake, settings):
    fake.token = "0" * 32
    fake.jobs["job"] = Job(messages=["one\n"])
    assert followed(settings)[0] == ["one"]


def test_stream_that_stays_silent_does_not_hide_the_end(settings, fake: FakeDashboard, monkeypatch):
    fake.jobs["job"] = Job(stored=b"one\n")

    async def silent(job):
        job.status = "FAILED"
        await asyncio.sleep(60)
        yield "never"

    monkeypatch.setattr(fake, "_messages", silent)
    assert followed(settings) == (["one"], [], "FAILED")


def test_headers_of_the_connection_go_with_each_request(fake, settings):
    fake.jobs["job"] = Job(messages=["one\n"])
    followed(settings.model_copy(update={"dashboard_headers": {"Cookie": "session=1", "X-Team": "a"}}))
    assert {(each.get("Cookie"), each.get("X-Team")) for _, _, each in fake.asked} == {("session=1", "a")}


def test_large_output_comes_in_few_pieces(fake, settings):
    messages = ["".join(f"line {number}\n" for number in range(start, start + 10)) for start in range(0, 20_000, 10)]
    fake.jobs["job"] = Job(messages=messages)
    assert followed(settings)[0] == [f"line {number}" for number in range(20_000)]


def test_line_without_end_comes_in_pieces():
    reader = LineReader()
    reader.begin()
    line = "x" * (2 * MAX_LINE_CHARACTERS) + "y"
    assert "".join(reader.feed(f"{line}\n")) == line
    assert max(map(len, [*reader.feed(f"{line}\n")])) == MAX_LINE_CHARACTERS


def test_empty_lines_are_kept():
    reader = LineReader()
    assert reader.feed("a\n\nb\n") == ["a", "", "b"]
