"""Where a lost input is read from, and with whose credentials: no XCom that anybody may write decides that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import XComResult

from airflow_ray.client.checkpoints import XCOM_KEY, CheckpointLocation, resolve, told
from airflow_ray.client.checkpoints.credentials import s3_options, signing_keys, telling_keys
from airflow_ray.client.checkpoints.telling import of_producer, tell
from airflow_ray.client.connection.settings import RaySettings, settings_of
from airflow_ray.exceptions import RayCheckpointSignatureError, RayConfigurationError
from airflow_ray.object_uri import ObjectURI

URI = ObjectURI("ray_default", "dag", "run", "make")
IN_LOOP = ObjectURI("ray_default", "dag", "run", "make", region="0123456789abcdef0123456789abcdef.0")
LOCATION = CheckpointLocation("s3://bucket/of/task", "s3")
OF_CONNECTION = {"path": "s3://bucket/of/connection", "aws_conn_id": "s3"}


@pytest.fixture
def settings() -> RaySettings:
    extra = {"mode": "local", "checkpoint_path": OF_CONNECTION["path"], "checkpoint_conn_id": "s3"}
    return settings_of(Connection(conn_id="ray_default", conn_type="ray", extra=json.dumps(extra)))


@pytest.fixture(autouse=True)
def aws_connection(bucket: str) -> None:
    """The connection ``s3`` is there, so that nothing fails for lack of it."""


def found(monkeypatch: pytest.MonkeyPatch, settings: RaySettings, value: Any) -> CheckpointLocation | None:
    """Return where a task would look to whom Airflow says that the producing task has pushed ``value``."""

    class Supervisor:
        def send(self, message: Any) -> XComResult:
            return XComResult(key=XCOM_KEY, value=value)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    return of_producer(URI, settings)


@pytest.mark.parametrize("conn_type", ["postgres", "http", "ray", "google_cloud_platform"])
def test_password_of_a_connection_of_another_type_is_no_secret_key(monkeypatch, conn_type):
    connection = {"conn_type": conn_type, "login": "user", "password": "a-password", "host": "db"}
    monkeypatch.setenv("AIRFLOW_CONN_PROD_PG", json.dumps(connection))
    with pytest.raises(RayConfigurationError, match=f"'prod_pg' is of type '{conn_type}'") as raised:
        s3_options("prod_pg")
    assert "a-password" not in str(raised.value)


def test_bucket_of_a_connection_of_another_type_is_no_path(monkeypatch):
    connection = {"conn_type": "http", "extra": {"bucket": "of-somebody"}}
    monkeypatch.setenv("AIRFLOW_CONN_SOME_HTTP", json.dumps(connection))
    with pytest.raises(RayConfigurationError, match="is of type 'http'"):
        resolve(None, "some_http")


def test_what_the_producing_task_has_told_is_taken(monkeypatch, settings):
    assert found(monkeypatch, settings, told(LOCATION, URI)) == LOCATION


@pytest.mark.parametrize(
    "change",
    [
        {"signature": None},
        {"signature": "ü"},
        {"signature": ["a"]},
        {"path": "s3://bucket/of/somebody"},
        {"path": "file:///etc"},
        {"path": None},
        {"path": ["s3://bucket/of/task"]},
        {"aws_conn_id": "prod_pg"},
        {"aws_conn_id": None},
    ],
    ids=str,
)
def test_what_was_changed_afterwards_is_refused(monkeypatch, settings, change):
    with pytest.raises(RayCheckpointSignatureError, match="not signed"):
        found(monkeypatch, settings, {**told(LOCATION, URI), **change})


@pytest.mark.parametrize("value", ["s3://bucket/of/task", ["s3://bucket/of/task"], 5, {"paths": 1}], ids=str)
def test_what_is_no_location_is_refused(monkeypatch, settings, value):
    with pytest.raises(RayCheckpointSignatureError, match="not signed"):
        found(monkeypatch, settings, value)


@pytest.mark.parametrize("other", [ObjectURI("ray_default", "dag", "run", "of_others"), URI.with_key("x")], ids=str)
def test_what_another_task_has_told_is_refused_and_what_the_same_task_has_told_is_not(monkeypatch, settings, other):
    value = told(LOCATION, other)
    if other.work == URI.work:
        assert found(monkeypatch, settings, value) == LOCATION
    else:
        with pytest.raises(RayCheckpointSignatureError):
            found(monkeypatch, settings, value)


def test_what_the_connection_says_itself_needs_no_signature(monkeypatch, settings):
    assert found(monkeypatch, settings, OF_CONNECTION) == CheckpointLocation(**OF_CONNECTION)


def test_keys_that_the_cluster_gets_sign_no_location():
    assert not {*signing_keys(URI.work)} & {*telling_keys(URI.work)}


class BehindLoop:
    """What Airflow says to a task behind a loop of a task in it."""

    def send(self, message: Any) -> XComResult:
        raise RuntimeError("A loop producer requires an explicit scope or a consumer inside the loop")


def test_iteration_of_which_airflow_tells_nothing_behind_its_loop_has_told_of_no_checkpoint(monkeypatch, settings):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", BehindLoop(), raising=False)
    assert of_producer(IN_LOOP, settings) is None
    with pytest.raises(RuntimeError):
        of_producer(URI, settings)


def test_iteration_of_which_airflow_takes_nothing_behind_its_loop_is_told_of_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", BehindLoop(), raising=False)
    tell(LOCATION, IN_LOOP)
    assert "Airflow takes no XCom for ray-object://ray_default/dag/run/make" in caplog.text
