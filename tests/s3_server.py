"""A real server of the S3 protocol in a process of its own, and a proxy that disturbs it, for tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import boto3
import requests

from tools.standalone import free_ports

START_SECONDS = 60.0
REGION = "us-east-1"


class S3Server:
    """moto's server; it takes any credentials until :meth:`check_credentials`."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        command = [
            sys.executable,
            "-c",
            "from moto.server import main; main()",
            "-H",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The S3 server does not start")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str = "s3"):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test-access-key",
            aws_secret_access_key="test-secret-key",
        )

    def connection(self, **extra: str) -> str:
        """Return an Airflow connection of type aws as JSON."""
        connection = {
            "conn_type": "aws",
            "login": extra.pop("access_key", "test-access-key"),
            "password": extra.pop("secret_key", "test-secret-key"),
            "extra": {"region_name": REGION, "endpoint_url": self.endpoint, **extra},
        }
        return json.dumps(connection)

    def new_bucket(self) -> str:
        name = f"bucket-{os.urandom(6).hex()}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
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
        self.process.kill()
        self.process.wait()


class FaultyProxy:
    """Stands between S3 and its clients, and disturbs the connections that are made while a fault is set.

    :param port: of the server.

    ``fault`` is None, or what happens to a connection when ``after_bytes`` have come from the client:
    ``cut`` closes it, ``hang`` passes nothing on any more, ``busy`` answers 503. ``faults_left`` limits how often.
    ``requests`` has the first line of each request.
    """

    def __init__(self, port: int) -> None:
        self.fault: str | None = None
        self.after_bytes = 0
        self.faults_left = 10**9
        self.faults = 0
        self.requests: list[str] = []
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client sends, up to the fault."""
        passed = 0
        with suppress(OSError):
            while data := client.recv(65536):
                passed += len(data)
                if data.startswith((b"GET ", b"PUT ", b"HEAD ", b"DELETE ")):
                    self.requests.append(data.split(b"\r\n", 1)[0].decode())
                if self.fault and passed > self.after_bytes and self.faults_left > 0:
                    self.faults_left -= 1
                    self.faults += 1
                    self._break(client, server)
                    return
                server.sendall(data)
        self._end(server)

    def _break(self, client: socket.socket, server: socket.socket) -> None:
        if self.fault == "hang":
            return
        if self.fault == "busy":
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        for each in (client, server):
            self._end(each)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._end(sink)

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
