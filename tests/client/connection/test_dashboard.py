"""What goes to a dashboard with a request, and whom it is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from airflow_ray.client.connection import secrets
from airflow_ray.client.connection.dashboard import Dashboard, dashboard_url, leads_elsewhere
from airflow_ray.client.connection.settings import RaySettings, settings_of
from airflow_ray.client.jobs import following
from airflow_ray.client.jobs.following import JobFollower
from airflow_ray.exceptions import RayAuthenticationError, RayConfigurationError, RayConnectionError
from tests.certificates import Authority
from tests.client.connection.test_settings import Fields
from tests.client.jobs.conftest import fake as fake
from tests.client.jobs.fake_dashboard import FakeDashboard, Job

TOKEN = "f" * 32


def settings(url: str | None, **fields: object) -> RaySettings:
    given = {"host": "127.0.0.1", "mode": "gateway", "password": TOKEN, "dashboard_url": url, **fields}
    return settings_of(Fields(**given))


def output_of(settings: RaySettings, job: str = "job") -> list[str]:
    async def follow() -> list[str]:
        with Dashboard(dashboard_url(settings), settings) as dashboard:
            return [line async for news in JobFollower(dashboard, job, 0.1).news() for line in news.lines]

    return asyncio.run(follow())


# Certificates


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def over_tls(authority) -> Iterator[FakeDashboard]:
    """A dashboard whose certificate the machine does not know, with a job."""
    fake = FakeDashboard(authority.sign("dashboard"))
    fake.jobs["job"] = Job(messages=["one\n"])
    yield fake
    fake.close()


@pytest.mark.parametrize("as_text", [False, True])
def test_who_signs_the_certificate_is_said_by_the_connection(over_tls, authority, as_text):
    path = authority.certificate
    verify = path.read_text().replace("\n", "\\n") if as_text else str(path)
    assert output_of(settings(over_tls.url, dashboard_verify=verify)) == ["one"]


def test_certificate_of_the_cluster_will_do(over_tls, authority):
    assert output_of(settings(over_tls.url, tls_ca_cert=str(authority.certificate))) == ["one"]


def test_comments_between_certificates_may_be_in_any_language(over_tls, authority):
    authority.certificate.write_text(f"# Autorité\n{authority.certificate.read_text()}")
    assert output_of(settings(over_tls.url, tls_ca_cert=str(authority.certificate))) == ["one"]


@pytest.mark.parametrize("false", [False, "false", "False"])
def test_no_certificate_is_verified_where_the_connection_says_so(over_tls, false):
    assert output_of(settings(over_tls.url, dashboard_verify=false)) == ["one"]


@pytest.mark.parametrize("verify", [{}, {"dashboard_verify": "true"}])
def test_unknown_certificate_is_refused(over_tls, monkeypatch, verify):
    monkeypatch.setattr(following, "AWAY_SECONDS", 0.0)
    with pytest.raises(RayConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        output_of(settings(over_tls.url, **verify))


# Headers


@pytest.mark.parametrize("headers", [{"Cookie": "session=1"}, '{"Cookie": "session=1"}'])
def test_headers_go_with_each_request(fake, headers):
    fake.jobs["job"] = Job(messages=["one\n"])
    output_of(settings(fake.url, dashboard_headers=headers))
    assert {each.get("Cookie") for _, _, each in fake.asked} == {"session=1"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_headers_and_token_stay_with_the_host_and_port_that_they_are_for(fake, host):
    other = FakeDashboard()
    try:
        fake.elsewhere, other.jobs["job"] = other.url.replace("127.0.0.1", host), Job()
        with Dashboard(fake.url, settings(fake.url, dashboard_headers={"X-Secret": "1"})) as dashboard:
            dashboard._identity.headers["authorization"] = f"Bearer {TOKEN}"
            assert dashboard.job("job")["status"] == "RUNNING"
        (received,) = [headers for _, _, headers in other.asked]
        assert {name.lower() for name in received} & {"x-secret", "authorization"} == set()
        assert fake.asked[0][2]["X-Secret"] == "1"
    finally:
        other.close()


@pytest.mark.parametrize(
    ("origin", "target", "leads"),
    [
        ("http://head/a", "http://head:80/b", False),
        ("http://head", "https://head", False),
        ("https://head", "http://head", True),
        ("http://head:8265", "https://head", True),
        ("http://head", "https://other", True),
    ],
)
def test_redirect_leads_elsewhere_but_to_the_https_of_the_same(origin, target, leads):
    assert leads_elsewhere(httpx.URL(origin), httpx.URL(target)) is leads


@pytest.mark.parametrize("named", [None, "https://elsewhere.example.com"])
def test_token_of_a_connection_with_tls_goes_over_plain_http_to_no_address_that_it_does_not_name(fake, named):
    fake.jobs["job"], fake.token = Job(), TOKEN
    with Dashboard(fake.url, settings(named, tls=True)) as dashboard, pytest.raises(RayAuthenticationError) as told:
        dashboard.job("job")
    assert "the connection's does not go over plain HTTP, since the connection has TLS" in str(told.value)
    assert TOKEN not in repr(fake.asked)


def test_token_of_a_connection_with_tls_goes_over_plain_http_to_the_address_that_it_names(fake):
    fake.jobs["job"], fake.token = Job(), TOKEN
    with Dashboard(fake.url, settings(f"{fake.url}/", tls=True)) as dashboard:
        assert dashboard.job("job")["status"] == "RUNNING"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_stream_of_output_takes_them_nowhere_else(fake, monkeypatch, host):
    other = FakeDashboard()
    try:
        job = fake.jobs["job"] = Job(stored=b"one\n")
        ask = Job.info

        def ends_after_one_question(job):
            told = ask(job)
            fake.elsewhere, job.status = other.url.replace("127.0.0.1", host), "FAILED"
            return told

        monkeypatch.setattr(Job, "info", ends_after_one_question)
        other.jobs["job"] = job
        assert output_of(settings(fake.url, dashboard_headers={"X-Secret": "1"})) == []
        assert [headers for _, _, headers in other.asked if "X-Secret" in headers] == []
    finally:
        other.close()


def test_headers_are_for_the_address_of_the_connection_alone(fake):
    of_another = settings("https://elsewhere.example.com", dashboard_headers={"X-Secret": "1"})
    with Dashboard(fake.url, of_another) as dashboard:
        assert dashboard.headers == {}


def test_headers_are_masked_and_in_no_text(monkeypatch):
    masked: list[str] = []
    monkeypatch.setattr(secrets, "mask_secret", masked.append)
    made = settings("http://head:8265", dashboard_headers={"Cookie": "session=sesame"})
    assert "session=sesame" in masked
    assert "sesame" not in repr(made)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dashboard_headers": "Cookie: sesame"}, "dashboard_headers must be a JSON object whose values are texts"),
        ({"dashboard_headers": {"Cookie": 1}}, "dashboard_headers must be a JSON object whose values are texts"),
        ({"dashboard_verify": "/no/such/file"}, "dashboard_verify must be a file in PEM on this machine, or its text"),
    ],
)
def test_field_that_is_wrong_is_told_without_what_it_says(fields, told):
    with pytest.raises(RayConfigurationError, match=told) as refusal:
        settings("http://head:8265", **fields)
    assert "sesame" not in str(refusal.value)


# What stands before it


@pytest.mark.parametrize(
    "ask", [lambda dashboard: dashboard.submit({"submission_id": "job"}), lambda dashboard: dashboard.job("job")]
)
@pytest.mark.parametrize("page", ["<html>Log in</html>", "[]", '{"error": "log in"}'])
def test_page_to_log_in_is_not_taken_for_an_answer(fake, ask, page):
    fake.refusals = [(200, page)]
    with Dashboard(fake.url, settings(fake.url)) as dashboard, pytest.raises(RayConnectionError) as told:
        ask(dashboard)
    assert "is not a Ray dashboard: 200 OK" in str(told.value)
    assert fake.submitted == []


# Addresses


@pytest.mark.parametrize(
    ("host", "fields", "url"),
    [
        ("head", {}, "http://head:8265"),
        ("::1", {}, "http://[::1]:8265"),
        ("head", {"dashboard_url": "https://ray.example.com/"}, "https://ray.example.com/"),
    ],
)
def test_dashboard_is_where_the_connection_says_or_on_the_head(host, fields, url):
    assert dashboard_url(settings_of(Fields(host=host, password=TOKEN, mode="gateway", **fields))) == url
