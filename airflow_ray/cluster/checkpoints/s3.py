"""S3 as pyarrow reaches it, be it Amazon's or another server of its protocol."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS = 5
CONNECT_SECONDS = 5.0
# The first that can write a file in one request, and that takes a certificate.
FULL_PYARROW = 21
# What Amazon's library reads when a file system is opened, and keeps: pyarrow has no argument for it.
CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"


def open_s3(root: str, options: dict[str, Any]) -> Any:
    """Return a file system of pyarrow's.

    Unless told otherwise, no checksum that nothing requires is sent to an endpoint that was named: it would follow the
    content, and a server that does not know that way of sending stores it as part of that.

    :param root: bucket, and folder in it.
    :param options: arguments of :class:`pyarrow.fs.S3FileSystem`; also ``tls_ca_pem``, the text of a certificate, and
        ``checksums``, which is ``when_required`` or ``when_supported``.
    """
    import pyarrow
    from pyarrow import fs

    arguments = dict(options)
    is_older = int(pyarrow.__version__.partition(".")[0]) < FULL_PYARROW
    # An older one begins a multipart upload for each file: three requests, of which a crash may leave the first two.
    if not is_older:
        arguments["allow_delayed_open"] = True
    if pem := arguments.pop("tls_ca_pem", None):
        if is_older:
            raise CheckpointFailure(
                FailureKind.CHECKPOINT_PACKAGE,
                root,
                f"this machine has pyarrow {pyarrow.__version__}, and the certificate that the AWS connection names as "
                f"verify needs {FULL_PYARROW}",
            )
        arguments["tls_ca_file_path"] = _certificate_file(pem)
    checksums = arguments.pop("checksums", None)
    if not checksums and not os.environ.get(CHECKSUMS) and arguments.get("endpoint_override"):
        checksums = "when_required"
    if not arguments.get("region") and not arguments.get("endpoint_override"):
        arguments["region"] = fs.resolve_s3_region(root.partition("/")[0])
    with _environment(checksums):
        return fs.S3FileSystem(
            **arguments,
            background_writes=False,
            connect_timeout=CONNECT_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )


@functools.cache
def _environment_lock() -> Any:
    """Return a lock; it cannot be a variable of this module, which is copied to the cluster."""
    return Lock()


@contextmanager
def _environment(checksums: str | None) -> Iterator[None]:
    """Let a file system that is opened meanwhile send checksums as told, or as this machine is set up to."""
    if checksums is None:
        yield
        return
    with _environment_lock():
        before = os.environ.get(CHECKSUMS)
        os.environ[CHECKSUMS] = checksums
        try:
            yield
        finally:
            del os.environ[CHECKSUMS]
            if before is not None:
                os.environ[CHECKSUMS] = before


def _certificate_file(pem: str) -> str:
    """Return a file with a certificate, which is no secret; pyarrow takes a file only, and reads it again later."""
    return _file_of_process(pem, os.getpid())


@functools.cache
def _file_of_process(pem: str, pid: int) -> str:
    """Return a file of one process, which goes when that ends; a child that was forked has its own."""
    with tempfile.NamedTemporaryFile("w", prefix="airflow-ray-ca-", suffix=".pem", delete=False) as file:
        file.write(pem)

    def remove() -> None:
        if os.getpid() == pid:
            with suppress(FileNotFoundError):
                os.unlink(file.name)

    atexit.register(remove)
    return file.name
