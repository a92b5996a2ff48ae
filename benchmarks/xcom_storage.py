"""The ways of handing a table over that go through files: Airflow's XCom backend for object storage, and pickle."""

from __future__ import annotations

import os
import pickle
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tools.s3_server import REGION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.s3_server import S3Server

S3_CONN_ID = "benchmark_s3"


def s3_filesystem(server: S3Server) -> Any:
    """Return a filesystem of pyarrow's on the server."""
    from pyarrow import fs

    return fs.S3FileSystem(
        access_key="test-access-key",
        secret_key="test-secret-key",
        endpoint_override=server.endpoint.removeprefix("http://"),
        scheme="http",
        region=REGION,
        # The server puts the parts of a gigabyte together while the client waits.
        request_timeout=300,
    )


class PickleOnS3:
    """Writes the pickle of a value to S3 in one stream and reads it back."""

    def __init__(self, server: S3Server) -> None:
        self._filesystem = s3_filesystem(server)
        self._path = f"{server.new_bucket()}/value.pickle"

    def seconds(self, value: Any, use: Callable[[Any], float]) -> float:
        """Return how long it takes to hand ``value`` over to ``use``, which returns the time when it is done."""
        started = time.time()
        with self._filesystem.open_output_stream(self._path) as stream:
            pickle.dump(value, stream, protocol=5)
        with self._filesystem.open_input_file(self._path) as file:
            return use(pickle.loads(file.read_buffer())) - started


class XComStorage:
    """Airflow's XComObjectStorageBackend, called as a task calls it.

    :param path: the folder for the values.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def on_disk(cls, folder: Path) -> XComStorage:
        """Return one that keeps the values in a folder."""
        return cls(f"file://{folder}")

    @classmethod
    def on_s3(cls, server: S3Server) -> XComStorage:
        """Return one that keeps the values in a bucket.

        Airflow would use s3fs, which needs an older botocore than the rest.
        """
        from airflow.sdk.io import attach
        from fsspec.implementations.arrow import ArrowFSWrapper

        attach("s3", S3_CONN_ID, fs=ArrowFSWrapper(s3_filesystem(server)))
        return cls(f"s3://{S3_CONN_ID}@{server.new_bucket()}/xcom")

    def seconds(self, value: Any, use: Callable[[Any], float]) -> float:
        """Return how long it takes to hand ``value`` over to ``use``, which returns the time when it is done."""
        from airflow.providers.common.io.xcom import backend

        os.environ["AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH"] = self._path
        os.environ["AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD"] = "1000"
        for setting in (backend._get_base_path, backend._get_threshold):
            setting.cache_clear()
        started = time.time()
        stored = backend.XComObjectStorageBackend.serialize_value(
            value, key="return_value", dag_id="benchmark", run_id=uuid.uuid4().hex, task_id="make"
        )
        xcom: Any = SimpleNamespace(value=stored)
        taken_at = use(backend.XComObjectStorageBackend.deserialize_value(xcom))
        backend.XComObjectStorageBackend.purge(xcom)
        return taken_at - started
