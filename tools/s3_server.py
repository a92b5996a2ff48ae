"""A real server of the S3 protocol in a process of its own on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from airflow_ray.client.connection.head_process import free_ports
from tools.standalone import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 150.0
REGION = "us-east-1"


class S3Server:
    """moto's server; it takes any credentials until :meth:`check_credentials`.

    :param port: that it listens on; a free one if None.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        command = [sys.executable, "-c", "from moto.server import main; main()"]
        command += ["-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The S3 server does not start")
            time.sleep(0.05)

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """Return a boto3 client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test-access-key",
            aws_secret_access_key="test-secret-key",
        )

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection of type aws as JSON."""
        connection = {
            "conn_type": "aws",
            "login": extra.pop("access_key", "test-access-key"),
            "password": extra.pop("secret_key", "test-secret-key"),
            "extra": {"region_name": REGION, "endpoint_url": self.endpoint, **extra},
        }
        return json.dumps(connection)

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{os.urandom(6).hex()}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    @contextmanager
    def check_credentials(self) -> Iterator[None]:
        """Let requests be checked against the users and policies of the server's IAM."""
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data=b"0", timeout=30).raise_for_status()
        try:
            yield
        finally:
            requests.post(f"{self.endpoint}/moto-api/reset-auth", data=b"1e9", timeout=30).raise_for_status()

    def stop(self) -> None:
        """End the server and forget what it holds."""
        self.process.kill()
        self.process.wait()
