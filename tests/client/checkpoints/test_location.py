"""What a place for checkpoints shows of itself."""

from __future__ import annotations

import pytest

from airflow_ray.client.checkpoints.location import CheckpointLocation
from airflow_ray.exceptions import RayConfigurationError

WORK = "ray-object://ray/dag/run/task/-1"


@pytest.mark.parametrize("path", ["s3://AKIA:secret@bucket/prefix", "s3://AKIA:sec/ret@bucket", "gs://secret@bucket"])
def test_credentials_in_a_path_are_refused_and_not_shown(path):
    with pytest.raises(RayConfigurationError, match="belong in an AWS connection") as raised:
        CheckpointLocation(path)
    assert "sec" not in str(raised.value)


def test_secrets_are_in_the_target_and_in_nothing_that_is_shown(bucket):
    location = CheckpointLocation(f"s3://{bucket}/prefix", "s3")
    assert location.target(WORK)["storage"]["options"]["secret_key"] == "test-secret-key"
    assert "test-secret-key" not in f"{location!r} {location} {location.as_xcom()}"


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "no text"])
def test_certificate_that_cannot_be_read_is_named(s3, monkeypatch, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(verify=str(path)))
    with pytest.raises(RayConfigurationError, match="certificate that the AWS connection 's3' names"):
        CheckpointLocation("s3://bucket", "s3").storage()
