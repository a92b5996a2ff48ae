"""Checkpoints on a server of Google Cloud Storage's protocol."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.cluster.checkpoints import checkpoint
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from tools.standalone import answers

KEYS = ["ab" * 32]
URI = "ray-object://ray_default/dag/manual__2026-01-01T00%3A00%3A00/task/-1/return_value"


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, object]]:
    """Arguments of pyarrow's file system for the server, which has a bucket and serves one connection at a time."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([*command, "--in-memory", "--default-bucket=bucket"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not answers(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield {"anonymous": True, "endpoint_override": f"127.0.0.1:{port}", "scheme": "http"}
    server.kill()
    server.wait()


def test_what_is_saved_is_loaded(options):
    frame = pd.DataFrame({"a": np.arange(1000.0)})
    checkpoint.save(Storage("gs://bucket/prefix", options), URI, frame, KEYS)
    loaded, described = checkpoint.load(Storage("gs://bucket/prefix", options), URI, KEYS)
    pd.testing.assert_frame_equal(loaded, frame)
    assert described["path"].startswith("gs://bucket/prefix/ray_default/dag/")


def test_missing_bucket_is_told(options):
    with pytest.raises(CheckpointFailure) as raised:
        checkpoint.save(Storage("gs://no-such-bucket", options), URI, 1, KEYS)
    assert raised.value.error["kind"] == "checkpoint_access"
