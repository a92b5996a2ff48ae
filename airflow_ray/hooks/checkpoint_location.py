"""Where checkpoints lie, and with which credentials and key a worker of the cluster may write and read them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_ray._compat import AirflowNotFoundException, BaseHook, conf, pull_xcom
from airflow_ray.cluster.work import REFRESH_SECONDS as REFRESH_SECONDS
from airflow_ray.exceptions import RayCheckpointAccessError, RayConfigurationError

if TYPE_CHECKING:
    from airflow_ray.object_uri import ObjectURI

XCOM_KEY = "ray_checkpoint"
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
        """Return the arguments of :class:`~airflow_ray.cluster.storage.Storage`, credentials among them."""
        options = {} if self.aws_conn_id is None else s3_options(self.aws_conn_id)
        return {"path": self.path, "options": options}

    def as_xcom(self) -> dict[str, str | None]:
        """Return this as plain data without any secret."""
        return asdict(self)


def targets(
    uri: ObjectURI, checkpoint: CheckpointLocation | None, storage: CheckpointLocation | None, required: bool
) -> dict[str, Any]:
    """Return what the owner is told of where one piece of work may write, credentials among it.

    :param checkpoint: for its outputs.
    :param storage: for what it writes itself.
    :param required: whether the work fails where its outputs cannot be written.
    """
    return {
        "checkpoint": checkpoint and checkpoint.target(uri.work, required),
        "storage": storage and storage.storage(),
    }


def have_expiring_credentials(made: dict[str, Any]) -> bool:
    """Return whether :func:`targets` made something with the credentials of a role."""
    storages = [(made["checkpoint"] or {}).get("storage"), made["storage"]]
    return any("session_token" in each["options"] for each in storages if each)


def resolve(path: str | None, aws_conn_id: str | None) -> CheckpointLocation | None:
    """Return the folder that is set first: by the caller, in the AWS connection, in Airflow's configuration.

    :param path: of the caller.
    :param aws_conn_id: AWS connection that the caller names.
    :returns: None where no path is set at all.
    """
    found = path or _path_of_aws_connection(aws_conn_id) or conf.get("airflow_ray", "checkpoint_path", fallback=None)
    return CheckpointLocation(found, aws_conn_id or None) if found else None


def signing_keys(work: str) -> list[str]:
    """Return the keys that sign the checkpoints of one piece of work, in hexadecimal; the first is the current one.

    They are made with HMAC-SHA256 from the Fernet keys, so that none tells the Fernet key, or signs for other work.

    :param work: the object URI of its outputs up to the key.
    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    from cryptography.fernet import Fernet

    fernet = (conf.get("core", "fernet_key", fallback=None) or "").strip()
    message = f"airflow-ray checkpoint of {work}".encode()
    keys = []
    for key in fernet.split(","):
        try:
            Fernet(key.strip())
        except ValueError as error:
            raise RayConfigurationError(
                "Checkpoints are signed with a key made from Airflow's Fernet key: set [core] fernet_key to the same "
                f"valid key for the scheduler and all workers ({error})"
            ) from error
        keys.append(hmac.new(base64.urlsafe_b64decode(key.strip()), message, hashlib.sha256).hexdigest())
    return keys


def s3_options(aws_conn_id: str) -> dict[str, Any]:
    """Return the arguments of :class:`pyarrow.fs.S3FileSystem` for an AWS connection, credentials among them.

    :raises RayConfigurationError: there is no such connection, or it switches the check of certificates off.
    :raises RayCheckpointAccessError: no credentials are found, or a role is refused.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import BotoCoreError, ClientError

    _connection(aws_conn_id)
    hook = S3Hook(aws_conn_id)
    try:
        credentials = hook.get_credentials()
    except (BotoCoreError, ClientError, AttributeError) as error:
        raise RayCheckpointAccessError(
            f"The AWS connection {aws_conn_id!r} gives no credentials for checkpoints: {error}"
        ) from error
    options = {
        "access_key": credentials.access_key,
        "secret_key": credentials.secret_key,
        "session_token": credentials.token,
        "region": hook.region_name,
    }
    if endpoint := hook.conn_config.get_service_endpoint_url("s3"):
        parts = urlsplit(endpoint)
        options |= {"scheme": parts.scheme, "endpoint_override": f"{parts.netloc}{parts.path}".rstrip("/")}
    if hook.verify is False:
        raise RayConfigurationError(
            f"The AWS connection {aws_conn_id!r} has verify=False, which checkpoints do not offer: give a file with "
            "the certificate of the authority instead, as verify='/path/to/ca.pem'"
        )
    if isinstance(hook.verify, str):
        options["tls_ca_pem"] = Path(hook.verify).read_text()
    return {name: value for name, value in options.items() if value is not None}


def _path_of_aws_connection(aws_conn_id: str | None) -> str | None:
    if aws_conn_id is None:
        return None
    extra = _connection(aws_conn_id).extra_dejson
    bucket, prefix = extra.get("bucket"), extra.get("prefix") or ""
    return f"s3://{bucket}/{prefix}".rstrip("/") if bucket else None


def _connection(conn_id: str) -> Any:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise RayConfigurationError(
            f"There is no Airflow connection {conn_id!r}, which was named as the source of credentials for checkpoints"
        ) from error


def of_producer(uri: ObjectURI) -> CheckpointLocation | None:
    """Return where the task that made ``uri`` has told Airflow that its checkpoint is; only within a task."""
    told = pull_xcom(XCOM_KEY, dag_id=uri.dag_id, run_id=uri.run_id, task_id=uri.task_id, map_index=uri.map_index)
    return CheckpointLocation(**told) if told else None
