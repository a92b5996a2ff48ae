"""What a storage notices of a file that it has just written, on a server of the S3 protocol."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from airflow_ray.client.checkpoints.credentials import s3_options
from airflow_ray.cluster.checkpoints.storage import Storage, has_expired
from airflow_ray.cluster.failures import CheckpointFailure


@pytest.fixture(params=["in one request", "in one part"])
def storage(request, s3, bucket, monkeypatch) -> Storage:
    """One that writes as pyarrow 21 and newer do, and one that writes as older ones do."""
    if request.param == "in one part":
        monkeypatch.setattr("airflow_ray.cluster.checkpoints.s3.FULL_PYARROW", 10_000)
    options = {"access_key": "test-access-key", "secret_key": "test-secret-key", "region": "us-east-1"}
    return Storage(f"s3://{bucket}/ein Präfix", {**options, "scheme": "http", "endpoint_override": s3.endpoint[7:]})


@pytest.fixture
def replaced(storage):
    """Return a function that writes ``b"content"`` and has the server keep something else in its place."""

    def replaced(content: bytes) -> None:
        storage.write("name", b"content")
        storage.write("name", content)

    return replaced


def test_file_that_is_as_it_was_written_has_no_problem(storage):
    storage.write("name", b"content")
    assert storage.problem_with("name", memoryview(b"content")) is None


def test_file_of_another_size_is_noticed(storage, replaced):
    replaced(b"7;framing\r\ncontent")
    assert "keeps 18 bytes of it, and 7 were written" in storage.problem_with("name", b"content")


def test_file_of_the_same_size_and_other_content_is_noticed(storage, replaced):
    replaced(b"CONTENT")
    assert "other content" in storage.problem_with("name", b"content")


def test_file_that_is_not_there_is_noticed(s3, bucket, storage):
    storage.write("name", b"content")
    s3.client().delete_object(Bucket=bucket, Key="ein Präfix/name")
    assert "does not have it" in storage.problem_with("name", b"content")


def test_file_whose_tag_is_no_md5_is_read_once_and_believed_from_then_on(storage, monkeypatch):
    monkeypatch.setattr("airflow_ray.cluster.checkpoints.storage._md5_in", lambda metadata: "0" * 32)
    storage.write("name", b"content")
    assert storage.problem_with("name", b"CONTENT") is None


class Refusing(BaseHTTPRequestHandler):
    """Refuses a token that has expired, as S3 does: to a HEAD no answer has a body that could say why."""

    BODY = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    def do_HEAD(self) -> None:
        self.send_response(400)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(400)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(self.BODY)))
        self.end_headers()
        self.wfile.write(self.BODY)

    def log_message(self, *_args) -> None:
        pass


def test_refusal_without_a_reason_is_told_with_the_reason_that_another_request_has():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    options = {"access_key": "an-access-key", "secret_key": "a-secret-key", "session_token": "a-token"}
    endpoint = {"region": "us-east-1", "scheme": "http", "endpoint_override": f"127.0.0.1:{server.server_port}"}
    try:
        with pytest.raises(CheckpointFailure, match="The provided token has expired") as raised:
            Storage("s3://bucket/prefix", {**options, **endpoint}).read("manifest.json", 100)
    finally:
        server.shutdown()
        server.server_close()
    assert has_expired(raised.value)


def test_certificate_that_an_older_pyarrow_cannot_take_is_refused_in_words(monkeypatch):
    monkeypatch.setattr("airflow_ray.cluster.checkpoints.s3.FULL_PYARROW", 10_000)
    with pytest.raises(CheckpointFailure, match="names as verify needs 10000"):
        Storage("s3://bucket", {"tls_ca_pem": "-----BEGIN CERTIFICATE-----"})


@pytest.mark.parametrize(
    ("extra", "checksums"),
    [({}, None), ({"config_kwargs": {"request_checksum_calculation": "when_supported"}}, "when_supported")],
)
def test_connection_says_when_checksums_are_sent(s3, monkeypatch, extra, checksums):
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(**extra))
    assert s3_options("s3").get("checksums") == checksums
