"""What a connection, an XCom or an event may name: files of certificates, web addresses, exceptions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from airflow_ray import triggers
from airflow_ray.client import pem
from airflow_ray.client.connection import fields
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.client.deferral import settings_of_id
from airflow_ray.exceptions import AirflowRayError, RayConfigurationError, RayObjectLostError
from airflow_ray.operators import dashboard_link
from airflow_ray.operators.dashboard_link import RayDashboardLink
from tests.certificates import Authority
from tests.client.connection.test_settings import Fields


def text_of_refusal(**extra):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(**extra))
    return str(caught.value)


# Files of certificates


def test_pipe_is_no_certificate_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "ca.pem")
    assert "it is not a regular file" in text_of_refusal(tls_ca_cert=str(tmp_path / "ca.pem"))


def test_folder_is_no_certificate(tmp_path):
    assert "Is a directory" in text_of_refusal(tls_ca_cert=str(tmp_path))


def test_huge_file_is_no_certificate(tmp_path):
    with (tmp_path / "ca.pem").open("wb") as file:
        file.truncate(pem.MAX_BYTES + 1)
    assert "it is larger than 1,000,000 bytes" in text_of_refusal(tls_ca_cert=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("field", ["tls_ca_cert", "dashboard_verify"])
@pytest.mark.parametrize("text", ["", "none", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_file_without_a_certificate_is_told(tmp_path, field, text):
    (tmp_path / "ca.pem").write_text(text)
    told = text_of_refusal(**{field: str(tmp_path / "ca.pem")})
    assert f"{field} must be certificates in PEM, or a file with them, and holds none that can be read" in told


def test_trigger_reads_certificates_outside_of_the_event_loop(tmp_path, monkeypatch):
    import asyncio

    read_by = []
    read_pem = fields.read_pem
    monkeypatch.setattr(fields, "read_pem", lambda path: read_by.append(threading.get_ident()) or read_pem(path))
    certificate = Authority(tmp_path).certificate
    monkeypatch.setenv(
        "AIRFLOW_CONN_RAY_PEM", f'{{"conn_type": "ray", "host": "h", "extra": {{"tls_ca_cert": "{certificate}"}}}}'
    )
    asyncio.run(settings_of_id("ray_pem"))
    assert read_by
    assert threading.get_ident() not in read_by


CERTIFICATE_FILES = """
import glob, sys, tempfile
from airflow_ray.cluster.checkpoints.storage import open_filesystem

for pem in ("one", "one", "other"):
    open_filesystem({"path": "s3://b", "options": {"region": "eu-west-1", "tls_ca_pem": pem}})
print(len(glob.glob(f"{tempfile.gettempdir()}/airflow-ray-ca-*")))
"""


def test_certificate_of_a_bucket_lies_in_one_file_that_goes_with_the_process(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", CERTIFICATE_FILES]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["2"]
    assert list(tmp_path.glob("airflow-ray-ca-*")) == []


# Web addresses


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "//elsewhere", "file:///etc"])
def test_dashboard_of_a_connection_is_a_web_address(address):
    assert "dashboard_url must be an address that begins with http:// or https://" in text_of_refusal(
        dashboard_url=address
    )


@pytest.mark.parametrize(
    ("stored", "link"),
    [("javascript:alert(1)", ""), (None, ""), ({"a": 1}, ""), ("https://ray/#/jobs/1", "https://ray/#/jobs/1")],
)
def test_button_leads_to_web_addresses_only(stored, link, mocker):
    mocker.patch.object(dashboard_link, "pull_xcom", return_value=stored)
    assert RayDashboardLink().get_link(mocker.Mock(), ti_key=mocker.Mock()) == link


# Exceptions and times


@pytest.mark.parametrize("name", ["annotations", "AirflowException", "__loader__", "nothing"])
def test_event_makes_no_exception_but_one_of_this_package(name):
    assert type(triggers.error_of({"type": name, "message": "m"})) is AirflowRayError


def test_event_of_this_package_makes_its_exception():
    assert type(triggers.error_of({"type": "RayObjectLostError", "message": "m"})) is RayObjectLostError


def test_time_to_connect_is_bounded():
    assert "connect_timeout must be 3600 seconds at most, got 3601" in text_of_refusal(connect_timeout=3601)
