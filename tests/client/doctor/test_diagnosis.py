"""The diagnosis of a connection from Python, as the docs show it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_ray.client.client import RayClient
from airflow_ray.client.doctor import diagnose, summary
from airflow_ray.hooks.ray import RayHook

CONN_ID = "ray_examined"


@pytest.fixture(autouse=True)
def connection(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_EXAMINED", "ray://head?mode=teleport")


@pytest.mark.parametrize("make", [str, RayHook, RayClient], ids=["id", "hook", "client"])
def test_connection_is_examined_by_its_id_its_hook_or_its_client(make):
    findings = {finding.name: finding for finding in diagnose(make(CONN_ID))}
    assert [name for name, finding in findings.items() if finding.outcome == "failed"] == ["connection"]
    assert "mode must be one of" in findings["connection"].text


def test_steps_are_named_by_what_users_know():
    assert [finding.name for finding in diagnose(CONN_ID)][:5] == ["connection", "host", "cluster", "objects", "task"]


def test_summary_tells_the_first_failure_and_its_remedy():
    works, text = summary(CONN_ID)
    assert not works
    assert "mode must be one of" in text
    assert "Correct that setting" in text


def test_door_of_the_doctor_loads_no_ray():
    script = "import sys, airflow_ray.client.doctor, airflow_ray.client.tuning; print('ray' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "False"
