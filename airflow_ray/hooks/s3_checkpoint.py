"""The hook that writes and reads checkpoints from any task or script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.checkpoints import CheckpointLocation, CheckpointStore, resolve
from airflow_ray.client.forks import cached_property
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow_ray.object_uri import ObjectURI


class S3CheckpointHook(BaseHook):
    """Writes and reads checkpoints of task outputs, by their object URIs.

    Values are read into this process, and written from it; tasks with ``checkpoint=True`` do the same on
    the cluster. What is not a table or an array is a pickle, and read only if this Airflow has signed it.

    :param aws_conn_id: Airflow connection of type ``aws``: credentials, role, region, ``endpoint_url``,
        ``verify``. None takes the credentials of this machine.
    :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``. None takes ``bucket`` and
        ``prefix`` of the AWS connection's extra, or else ``[airflow_ray] checkpoint_path``.

    >>> hook = S3CheckpointHook("aws_default", "s3://my-bucket/checkpoints")
    >>> hook.save("ray-object://ray_default/my_dag/my_run/my_task/-1/return_value", {"a": 1})  # doctest: +SKIP
    """

    conn_name_attr = "aws_conn_id"

    def __init__(self, aws_conn_id: str | None = None, path: str | None = None) -> None:
        super().__init__()
        self.aws_conn_id = aws_conn_id
        self.path = path

    @cached_property
    def location(self) -> CheckpointLocation:
        """Where the checkpoints lie.

        :raises RayConfigurationError: no path is set, or it is malformed.
        """
        location = resolve(self.path, self.aws_conn_id)
        if location is None:
            raise RayConfigurationError(
                "There is no path for checkpoints: give one to S3CheckpointHook, or set bucket and prefix in the extra "
                "of the AWS connection, or [airflow_ray] checkpoint_path"
            )
        return location

    @cached_property
    def _store(self) -> CheckpointStore:
        return CheckpointStore(self.location)

    def save(self, uri: ObjectURI | str, value: Any) -> dict[str, Any]:
        """Write ``value`` as the checkpoint of ``uri``, in place of an earlier one, which stays until this is whole.

        :returns: what :meth:`describe` returns.
        :raises RayCheckpointAccessError: no such bucket, or not allowed.
        :raises RayCheckpointStorageError: the storage does not answer, breaks off or is full.
        :raises RayPicklingError: the value cannot be pickled.
        """
        return self._store.save(uri, value)

    def load(self, uri: ObjectURI | str) -> Any:
        """Return the value that was saved for ``uri``.

        :raises RayCheckpointNotFoundError: there is no checkpoint.
        :raises RayCheckpointCorruptError: a file is missing, cut short or changed.
        :raises RayCheckpointSignatureError: it was not signed with the Fernet key of this Airflow.
        :raises RayCheckpointVersionError: it has a format that this release does not know.
        :raises RayCheckpointAccessError: no such bucket, or not allowed.
        :raises RayCheckpointStorageError: the storage does not answer or breaks off.
        """
        return self._store.load(uri)

    def exists(self, uri: ObjectURI | str) -> bool:
        """Return whether there is a whole checkpoint of ``uri``, signed by this Airflow."""
        return self._store.exists(uri)

    def describe(self, uri: ObjectURI | str) -> dict[str, Any]:
        """Return what is known of the checkpoint of ``uri`` as plain data.

        That is ``type``, ``format``, ``rows`` or ``shape``, ``bytes``, number of ``files``, ``created_at`` in ISO 8601,
        ``packages`` with their versions, ``note`` and ``path``.

        :raises RayCheckpointError: as :meth:`load`.
        """
        return self._store.describe(uri)

    def list(self, prefix: str = "") -> list[ObjectURI]:
        """Return the object URIs of all checkpoints, in order; the log names each manifest that is none of one.

        :param prefix: how they start, for example ``ray-object://ray_default/my_dag/``.
        """
        return self._store.list(prefix)

    def delete(self, uri: ObjectURI | str) -> bool:
        """Delete the checkpoint of ``uri`` and return whether there were any files of it."""
        return self._store.delete(uri)

    def prune(self, older_than: timedelta) -> Sequence[ObjectURI]:
        """Delete the checkpoints that were written longer ago, and what killed tries have left, after a day at least.

        Only what is called as a file of a checkpoint is, and lies where one does, is deleted. A manifest that is
        broken, or not of this release, is named in the log, and all beside it stays.

        :returns: whose checkpoints were deleted, in order.
        """
        return self._store.prune(older_than)
