"""Where checkpoints lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_ray._compat import conf
from airflow_ray.client.checkpoints.credentials import aws_connection, s3_options, signing_keys
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from airflow_ray.client.connection.settings import RaySettings

SCHEMES = ("s3", "gs", "file")


@dataclass(frozen=True)
class CheckpointLocation:
    """A folder for checkpoints.

    :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.
    :param aws_conn_id: Airflow connection of type ``aws`` with the credentials for ``s3://``; None for those
        of the machine that writes or reads.
    :raises RayConfigurationError: the path is malformed, or needs no such connection.
    """

    path: str
    aws_conn_id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or "://" not in self.path:
            raise RayConfigurationError(
                f"A checkpoint path must look like s3://bucket/prefix, gs://bucket/prefix or file:///folder, "
                f"got {self.path!r}"
            )
        parts = urlsplit(self.path)
        if {"@", ":"}.intersection(parts.netloc):
            # Not shown, since it may hold a key.
            raise RayConfigurationError(
                "A checkpoint path names a bucket, without credentials before it: they belong in an AWS connection"
            )
        if parts.scheme not in SCHEMES:
            raise RayConfigurationError(
                f"The checkpoint path {self.path!r} starts with {parts.scheme}://: known are {', '.join(SCHEMES)}"
            )
        if (parts.scheme == "file") == bool(parts.netloc):
            raise RayConfigurationError(
                f"The checkpoint path {self.path!r} must name "
                + ("an absolute folder: file:///folder" if parts.scheme == "file" else "a bucket")
            )
        if {".", ".."}.intersection(self.path.split("/")) or parts.query or parts.fragment:
            raise RayConfigurationError(f"The checkpoint path {self.path!r} may not hold '.', '..', '?' or '#'")
        if self.aws_conn_id and parts.scheme != "s3":
            raise RayConfigurationError(
                f"The AWS connection {self.aws_conn_id!r} is of no use for the checkpoint path {self.path!r}, which is "
                "not on S3: the machines of the cluster use credentials of their own there"
            )

    def target(self, work: str, required: bool = True) -> dict[str, Any]:
        """Return what a worker needs to write or read checkpoints of one piece of work, as plain data.

        :param work: the object URI of its outputs up to the key.
        :param required: whether the work fails where they cannot be written.
        :raises RayConfigurationError: the connection is not there, or this Airflow has no Fernet key.
        """
        return {"storage": self.storage(), "uri": work, "keys": signing_keys(work), "required": required}

    def storage(self) -> dict[str, Any]:
        """Return the arguments of :class:`~airflow_ray.cluster.checkpoints.storage.Storage`, credentials among them."""
        options = {} if self.aws_conn_id is None else s3_options(self.aws_conn_id)
        return {"path": self.path, "options": options}

    def as_xcom(self) -> dict[str, str | None]:
        """Return this as plain data without any secret."""
        return asdict(self)


def resolve(path: str | None, aws_conn_id: str | None) -> CheckpointLocation | None:
    """Return the folder that is set first: by the caller, in the AWS connection, in Airflow's configuration.

    :param path: of the caller.
    :param aws_conn_id: AWS connection that the caller names.
    :returns: None where no path is set at all.
    """
    found = path or _path_of_aws_connection(aws_conn_id) or conf.get("airflow_ray", "checkpoint_path", fallback=None)
    return CheckpointLocation(found, aws_conn_id or None) if found else None


def find_location(
    settings: RaySettings, path: str | None = None, aws_conn_id: str | None = None
) -> CheckpointLocation | None:
    """Return where checkpoints go: as told here, else by the Ray connection, the AWS connection or the configuration.

    :param settings: of the Ray connection.
    :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.
    :param aws_conn_id: AWS connection with the credentials.
    :returns: None where no path is set at all.
    :raises RayConfigurationError: what is set is wrong.
    """
    return resolve(path or settings.checkpoint_path, aws_conn_id or settings.checkpoint_conn_id)


def require_location(
    settings: RaySettings, path: str | None = None, aws_conn_id: str | None = None
) -> CheckpointLocation:
    """Return what :func:`find_location` does.

    :raises RayConfigurationError: no path is set anywhere, or what is set is wrong.
    """
    location = find_location(settings, path, aws_conn_id)
    if location is None:
        raise RayConfigurationError(
            f"There is no path for checkpoints: set checkpoint_path of the task or of the connection "
            f"{settings.conn_id!r}, bucket and prefix in the extra of the AWS connection, or "
            "[airflow_ray] checkpoint_path"
        )
    return location


def find_storage(settings: RaySettings, path: str | None, aws_conn_id: str | None = None) -> CheckpointLocation | None:
    """Return where work may write what is no checkpoint of its outputs: as told here, else where those go.

    :param path: as for :func:`find_location`, or a folder that all nodes see.
    """
    if path and path.startswith("/"):
        return CheckpointLocation(f"file://{path}", aws_conn_id)
    return find_location(settings, path, aws_conn_id)


def _path_of_aws_connection(aws_conn_id: str | None) -> str | None:
    if aws_conn_id is None:
        return None
    extra = aws_connection(aws_conn_id).extra_dejson
    bucket, prefix = extra.get("bucket"), extra.get("prefix") or ""
    return f"s3://{bucket}/{prefix}".rstrip("/") if bucket else None
