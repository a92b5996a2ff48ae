"""Which connections this package uses that somebody else names: of type ray, and those that are allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import XComResult

from airflow_ray.client import kept
from airflow_ray.client.client import RayClient
from airflow_ray.client.connection import opening
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.object_uri import ObjectURI
from airflow_ray.sensors.object import RayObjectSensor
from airflow_ray.xcom import RayXComBackend

OWN = ObjectURI("ray_default", "dag", "run", "make")


# Of another type


@pytest.mark.parametrize("conn_type", ["http", "postgres", "aws", "Ray", "", None], ids=repr)
@pytest.mark.parametrize("host", ["somewhere", None])
def test_connection_of_another_type_is_refused(conn_type, host):
    connection = Connection(conn_id="some", conn_type=conn_type, host=host, password="a-password")
    with pytest.raises(RayConfigurationError, match="Connection 'some' is of type") as raised:
        settings_of(connection)
    assert "a-password" not in str(raised.value)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings with which a connection was opened, which then fails."""
    opened: list[Any] = []

    def open_session(settings: Any) -> Any:
        opened.append(settings)
        raise ConnectionAbortedError

    monkeypatch.setattr(opening, "OPENERS", dict.fromkeys(opening.OPENERS, open_session))
    return opened


@pytest.mark.parametrize("host", ["somewhere", None])
def test_uri_of_a_connection_of_another_type_sends_no_password_and_starts_no_head(monkeypatch, opened, host):
    connection = {"conn_type": "http", "host": host, "password": "a-password"}
    monkeypatch.setenv("AIRFLOW_CONN_SOME_HTTP", json.dumps(connection))
    uri = "ray-object://some_http/dag/run/make/-1/return_value"
    with pytest.raises(RayConfigurationError, match="is of type 'http'"):
        RayClient("some_http").get(uri)
    with pytest.raises(RayConfigurationError, match="is of type 'http'"):
        RayXComBackend.deserialize_value(type("Wrapped", (), {"value": uri}))
    with pytest.raises(RayConfigurationError, match="is of type 'http'"):
        RayObjectSensor(task_id="wait", object_uri=uri).poke({})
    assert opened == []


# Deletion of an XCom


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[ObjectURI]:
    """The objects that were freed, in place of a cluster."""
    freed: list[ObjectURI] = []

    class Client:
        def describe(self, uri: ObjectURI) -> dict[str, Any]:
            return {"state": "SUCCEEDED"}

        def release(self, uri: ObjectURI) -> list[ObjectURI]:
            freed.append(uri)
            return [uri]

    monkeypatch.setattr(kept, "call", lambda conn_id, function: function(Client()))
    return freed


def delete(monkeypatch: pytest.MonkeyPatch, *uris: ObjectURI | str) -> None:
    """Delete an XCom of the task of ``OWN`` that names these, as Airflow does when a task is tried again."""

    class Supervisor:
        def send(self, message: Any) -> XComResult:
            return XComResult(key="return_value", value=[str(uri) for uri in uris])

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    RayXComBackend.delete(key="return_value", task_id=OWN.task_id, dag_id=OWN.dag_id, run_id=OWN.run_id)


@pytest.fixture
def one_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__ALLOWED_URI_CONNECTIONS", "ray_default")


@pytest.mark.usefixtures("one_allowed")
def test_deletion_of_an_xcom_uses_no_connection_that_is_not_allowed(monkeypatch, freed, caplog):
    delete(monkeypatch, ObjectURI("ray_of_others", OWN.dag_id, OWN.run_id, OWN.task_id), OWN)
    assert freed == [OWN]
    assert "allowed_uri_connections only allows ray_default" in caplog.text


@pytest.mark.parametrize("other", ["ray-object://junk", ObjectURI("ray_default", "dag", "run", "of_others")], ids=str)
def test_deletion_of_an_xcom_frees_what_its_task_has_put_and_nothing_else(monkeypatch, freed, other):
    delete(monkeypatch, other, OWN)
    assert freed == [OWN]


def test_purge_that_does_not_know_the_task_frees_nothing_and_says_so(freed, caplog):
    others = ObjectURI("ray_default", "dag", "run", "of_others")
    RayXComBackend.purge(XComResult(key="return_value", value=[str(others)]))
    assert freed == []
    assert f"{others} stays" in caplog.text


def test_connection_of_another_type_does_not_keep_an_xcom_from_being_deleted(monkeypatch, opened, caplog):
    monkeypatch.setenv("AIRFLOW_CONN_SOME_HTTP", json.dumps({"conn_type": "http", "host": "somewhere"}))
    delete(monkeypatch, ObjectURI("some_http", OWN.dag_id, OWN.run_id, OWN.task_id))
    assert "is of type 'http'" in caplog.text
    assert opened == []
