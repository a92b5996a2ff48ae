"""Checkpoints on a server of S3's protocol that does not know checksums behind the content: npm's s3rver."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.exceptions import RayCheckpointStorageError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from tests.conftest import new_uri
from tests.ray_head import RayHead
from tools.standalone import answers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("npm"), reason="npm, which brings s3rver, is not installed"),
]
BUCKET = "checkpoints"
START_SECONDS = 150.0
FRAME = pd.DataFrame({"a": np.arange(3_000_000.0), "b": "ü"})


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3rver")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "s3rver@3.7.1"]
    subprocess.run(install, cwd=folder, check=True)
    (port,) = free_ports(1)
    command = ["node", "node_modules/s3rver/bin/s3rver.js", "--silent", "--directory", str(folder / "data")]
    command += ["--address", "127.0.0.1", "--port", str(port), "--configure-bucket", BUCKET]
    with subprocess.Popen(command, cwd=folder) as server:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture
def connect(endpoint, monkeypatch):
    """Return a function that makes the AWS connection ``s3rver``, with more in its extra."""

    def connect(**extra: object) -> None:
        extra = {"region_name": "us-east-1", "endpoint_url": endpoint, **extra}
        connection = {"conn_type": "aws", "login": "S3RVER", "password": "S3RVER", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_S3RVER", json.dumps(connection))

    return connect


@pytest.mark.parametrize("prefix", ["plain", "Ablage mit Leerzeichen/Prüfläufe + 100%"])
def test_what_is_saved_is_loaded_listed_and_deleted(connect, prefix):
    connect()
    hook = S3CheckpointHook("s3rver", f"s3://{BUCKET}/{prefix}")
    uri, other = new_uri("ray", "Aufgabe ü"), new_uri("ray")
    hook.save(uri, FRAME)
    hook.save(other, {"any": "object"})
    pd.testing.assert_frame_equal(hook.load(uri), FRAME)
    assert hook.list() == sorted([uri, other])
    assert hook.delete(uri)
    assert not hook.exists(uri)
    assert hook.prune(timedelta(0)) == [other]


def test_framing_that_is_stored_as_content_is_noticed_when_it_is_written(connect):
    connect(config_kwargs={"request_checksum_calculation": "when_supported"})
    hook = S3CheckpointHook("s3rver", f"s3://{BUCKET}/noticed")
    uri = new_uri("ray")
    with pytest.raises(RayCheckpointStorageError, match="request_checksum_calculation"):
        hook.save(uri, FRAME)
    assert not hook.exists(uri)


def test_task_leaves_its_checkpoint_there(connect, head: RayHead):
    connect()
    uri = new_uri("ray_client", "slice")
    options = {"checkpoint_source": "s3rver", "checkpoint_path": f"s3://{BUCKET}/von Aufgäben"}
    with RayHook("ray_client").connect() as hook:
        hook.submit(lambda: pa.table({"a": range(100)}), uri=uri, checkpoint=True, **options)
        hook.wait(uri)
    assert S3CheckpointHook("s3rver", options["checkpoint_path"]).load(uri).num_rows == 100
