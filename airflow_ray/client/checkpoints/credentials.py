"""With which credentials and keys a worker of the cluster may write and read checkpoints."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow_ray._compat import AirflowNotFoundException, BaseHook
from airflow_ray.client.fernet import keys_for
from airflow_ray.client.pem import read_pem
from airflow_ray.exceptions import RayCheckpointAccessError, RayConfigurationError

_SIGNED = "Checkpoints are signed with a key made from Airflow's Fernet key"


def signing_keys(work: str) -> list[str]:
    """Return the keys that sign the checkpoints of one piece of work, in hexadecimal; the first is the current one.

    :param work: the object URI of its outputs up to the key.
    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    return keys_for(f"airflow-ray checkpoint of {work}", _SIGNED)


def telling_keys(work: str) -> list[str]:
    """Return the keys that sign where those checkpoints lie, as :func:`signing_keys`: these never leave Airflow."""
    return keys_for(f"airflow-ray checkpoint location of {work}", _SIGNED)


def s3_options(aws_conn_id: str) -> dict[str, Any]:
    """Return the arguments of :class:`pyarrow.fs.S3FileSystem` for an AWS connection, credentials among them.

    :raises RayConfigurationError: there is no such connection, it switches the check of certificates off, or it names
        a certificate that cannot be read.
    :raises RayCheckpointAccessError: no credentials are found, or a role is refused.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import BotoCoreError, ClientError

    aws_connection(aws_conn_id)
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
    # A release of boto3 from before these checksums knows no such setting.
    options["checksums"] = getattr(hook.conn_config.botocore_config, "request_checksum_calculation", None)
    if isinstance(hook.verify, str):
        options["tls_ca_pem"] = _certificate(aws_conn_id, hook.verify)
    elif hook.verify is False:
        raise RayConfigurationError(
            f"The AWS connection {aws_conn_id!r} has verify=False, which checkpoints do not offer: give a file with "
            "the certificate of the authority instead, as verify='/path/to/ca.pem'"
        )
    return {name: value for name, value in options.items() if value is not None}


def _certificate(aws_conn_id: str, path: str) -> str:
    try:
        return read_pem(path).decode()
    except (OSError, UnicodeError) as error:
        raise RayConfigurationError(
            f"The certificate that the AWS connection {aws_conn_id!r} names in verify cannot be read here: {error}"
        ) from error


def aws_connection(conn_id: str) -> Any:
    """Return the AWS connection that is named as the source of credentials.

    :raises RayConfigurationError: there is none of that name, or it is of another type: its password would go to the
        cluster as a secret key.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise RayConfigurationError(
            f"There is no Airflow connection {conn_id!r}, which was named as the source of credentials for checkpoints"
        ) from error
    if connection.conn_type != "aws":
        raise RayConfigurationError(
            f"The Airflow connection {conn_id!r} is of type {connection.conn_type!r}: the credentials for checkpoints "
            "come from one of type 'aws'"
        )
    return connection
