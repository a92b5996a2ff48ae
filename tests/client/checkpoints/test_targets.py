"""The credentials of work that goes on are renewed, and what goes wrong with that fails no work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_ray.client.checkpoints import targets
from airflow_ray.client.checkpoints.targets import Targets
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.exceptions import RayConnectionError
from airflow_ray.triggers import RayObjectTrigger
from tests.conftest import new_uri
from tools.s3_server import S3Server

URI = new_uri("ray_default")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def pass_interval(self) -> None:
        self.now += targets.REFRESH_SECONDS + 1


class FakeLink:
    """Takes calls as a link does, and breaks once where it is told so."""

    settings: Any = None
    error: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, record_id: str, **arguments: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.calls.append((method, arguments))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(targets, "time", clock)
    return clock


@pytest.fixture
def role(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the AWS connection give the credentials of a role, with some of its fields changed."""

    def set_connection(**extra: Any) -> None:
        given = {"role_arn": "arn:aws:iam::123456789012:role/writer"}
        given["service_config"] = {"sts": {"endpoint_url": s3.endpoint}}
        monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(**{**given, **extra}))

    set_connection()
    return set_connection


@pytest.fixture
def link() -> FakeLink:
    link = FakeLink()
    link.settings = settings_of(Connection(conn_id="ray_default", conn_type="ray", extra='{"mode": "local"}'))
    return link


@pytest.fixture
def of_work(clock: Clock, role: Callable[..., None], link: FakeLink, bucket: str) -> Targets:
    """The targets of work that has been submitted with the credentials of a role, an interval ago."""
    of_link = Targets(link)
    path = f"s3://{bucket}/checkpoints"
    submitted = of_link.of(URI, RemoteOptions(checkpoint=True, checkpoint_path=path, checkpoint_source="s3"))
    assert submitted["checkpoint"]["storage"]["options"]["session_token"]
    clock.pass_interval()
    return of_link


def gone(role: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_S3")


def without_check(role: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    role(verify=False)


def without_answer(role: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    role(service_config={"sts": {"endpoint_url": "http://127.0.0.1:1"}}, config_kwargs={"retries": {"max_attempts": 0}})


def malformed(role: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    role(role_arn="no arn")


def without_certificate(role: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    role(verify="/nowhere/ca.pem")


CHANGES = [gone, without_check, without_answer, malformed, without_certificate]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_connection_does_not_end_the_wait_and_is_told(of_work, link, role, monkeypatch, caplog, change):
    change(role, monkeypatch)
    with caplog.at_level(logging.WARNING, targets.log.name):
        of_work.refresh(URI)
    assert link.calls == []
    (told,) = (record.getMessage() for record in caplog.records if record.name == targets.log.name)
    assert "The work goes on" in told
    assert "Mend" in told


def test_changed_connection_is_told_once_an_interval(of_work, clock, role, monkeypatch, caplog):
    gone(role, monkeypatch)
    with caplog.at_level(logging.WARNING, targets.log.name):
        for _ in range(3):
            clock.pass_interval()
            for _ in range(5):
                of_work.refresh(URI)
    assert len([record for record in caplog.records if record.name == targets.log.name]) == 3


def test_connection_that_was_mended_gives_new_credentials(of_work, link, clock, role, monkeypatch):
    gone(role, monkeypatch)
    of_work.refresh(URI)
    role()
    clock.pass_interval()
    of_work.refresh(URI)
    ((method, arguments),) = link.calls
    assert method == "refresh_credentials"
    assert arguments["checkpoint"]["storage"]["options"]["session_token"]


def test_link_that_breaks_is_left_to_whoever_follows_and_asked_again_at_once(of_work, link, caplog):
    link.error = RayConnectionError("the link is broken")
    of_work.refresh(URI)
    of_work.refresh(URI)
    assert [method for method, _ in link.calls] == ["refresh_credentials"]
    assert [record for record in caplog.records if record.name == targets.log.name] == []


class FakeWatcher:
    """Breaks at the first call, and tells of the second."""

    def __init__(self, error: Exception) -> None:
        self.renewed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._error: Exception | None = error

    def call(self, method: str, record_id: str, **arguments: Any) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._loop.call_soon_threadsafe(self.renewed.set)


def renewed_after(error: Exception, credentials: dict[str, Any]) -> None:
    """Wait until a trigger has renewed credentials, after a first time that raised ``error``."""

    async def wait() -> None:
        trigger = RayObjectTrigger([str(URI)], credentials=credentials)
        watcher = FakeWatcher(error)
        keeping = asyncio.create_task(trigger._keep_credentials({URI.run: watcher}))
        seen = asyncio.create_task(watcher.renewed.wait())
        await asyncio.wait([keeping, seen], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert seen.done(), "the trigger has stopped renewing"
        keeping.cancel()

    asyncio.run(wait())


@pytest.fixture
def credentials(role: Callable[..., None], bucket: str) -> dict[str, Any]:
    location = {"path": f"s3://{bucket}/checkpoints", "aws_conn_id": "s3"}
    return {"checkpoint": location, "storage": None, "required": True}


@pytest.mark.parametrize("error", [RayConnectionError("broken"), ValueError("unforeseen"), KeyError("gone")], ids=repr)
def test_trigger_goes_on_renewing_whatever_one_time_raises(monkeypatch, credentials, error):
    monkeypatch.setattr(targets, "REFRESH_SECONDS", 0.0)
    renewed_after(error, credentials)


def test_trigger_goes_on_renewing_when_the_connection_was_gone_for_a_while(monkeypatch, credentials, role):
    monkeypatch.setattr(targets, "REFRESH_SECONDS", 0.0)
    given, asked = targets.targets_of, []

    def gone_at_first(*arguments: Any) -> dict[str, Any]:
        if not asked:
            gone(role, monkeypatch)
        else:
            role()
        asked.append(arguments)
        return given(*arguments)

    monkeypatch.setattr(targets, "targets_of", gone_at_first)
    renewed_after(RayConnectionError("the second time"), credentials)
    assert len(asked) >= 3
