"""Checkpoints by their object URIs, written and read by a process of Airflow's."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.checkpoints.credentials import signing_keys
from airflow_ray.client.forks import cached_property
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user
from airflow_ray.cluster import checkpoints
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.exceptions import ObjectURIError, RayCheckpointNotFoundError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_ray.client.checkpoints.location import CheckpointLocation

# As many as S3 deletes in one request.
DELETED_AT_ONCE = 1000
log = logging.getLogger(__name__)


def _tell_of_bad_manifest(failure: CheckpointFailure) -> None:
    log.warning("Passed over %r: %s", failure.error["where"], failure.error["message"])


class CheckpointStore:
    """The checkpoints of one location.

    :param location: where they lie.
    """

    def __init__(self, location: CheckpointLocation) -> None:
        self.location = location

    def save(self, uri: ObjectURI | str, value: Any) -> dict[str, Any]:
        """Write ``value`` as the checkpoint of ``uri``, in place of an earlier one, which stays until this is whole.

        :returns: what :meth:`describe` returns.
        :raises RayCheckpointAccessError: no such bucket, or not allowed.
        :raises RayCheckpointStorageError: the storage does not answer, breaks off or is full.
        :raises RayPicklingError: the value cannot be pickled.
        """
        uri = ObjectURI.parse(uri)
        with self._failures(uri), pickle_by_value(importable_modules_of_user()):
            return checkpoints.save(self._storage, str(uri), value, signing_keys(uri.work))

    def load(self, uri: ObjectURI | str) -> Any:
        """Return the value that was saved for ``uri``.

        :raises RayCheckpointNotFoundError: there is no checkpoint.
        :raises RayCheckpointCorruptError: a file is missing, cut short or changed.
        :raises RayCheckpointSignatureError: it was not signed with the Fernet key of this Airflow.
        :raises RayCheckpointVersionError: it has a format that this release does not know.
        :raises RayCheckpointAccessError: no such bucket, or not allowed.
        :raises RayCheckpointStorageError: the storage does not answer or breaks off.
        """
        uri = ObjectURI.parse(uri)
        keep_identities()
        with self._failures(uri):
            return checkpoints.load(self._storage, str(uri), signing_keys(uri.work))[0]

    def exists(self, uri: ObjectURI | str) -> bool:
        """Return whether there is a whole checkpoint of ``uri``, signed by this Airflow."""
        try:
            self.describe(uri)
        except RayCheckpointNotFoundError:
            return False
        return True

    def describe(self, uri: ObjectURI | str) -> dict[str, Any]:
        """Return what is known of the checkpoint of ``uri`` as plain data.

        That is ``type``, ``format``, ``rows`` or ``shape``, ``bytes``, number of ``files``, ``created_at`` in ISO 8601,
        ``packages`` with their versions, ``note`` and ``path``.

        :raises RayCheckpointError: as :meth:`load`.
        """
        uri = ObjectURI.parse(uri)
        with self._failures(uri):
            return checkpoints.describe(self._storage, str(uri), signing_keys(uri.work))

    def list(self, prefix: str = "") -> list[ObjectURI]:
        """Return the object URIs of all checkpoints, in order; the log names each manifest that is none of one.

        :param prefix: how they start, for example ``ray-object://ray_default/my_dag/``.
        """
        with self._failures(self.location.path):
            return sorted(uri for uri, _ in self._stored(prefix))

    def delete(self, uri: ObjectURI | str) -> bool:
        """Delete the checkpoint of ``uri`` and return whether there were any files of it."""
        uri = ObjectURI.parse(uri)
        with self._failures(uri):
            names = checkpoints.files_of(self._storage, str(uri))
            self._delete(names)
        return bool(names)

    def prune(self, older_than: timedelta) -> Sequence[ObjectURI]:
        """Delete the checkpoints that were written longer ago, and what killed tries have left, after a day at least.

        Only what is called as a file of a checkpoint is, and lies where one does, is deleted. A manifest that is
        broken, or not of this release, is named in the log, and all beside it stays.

        :returns: whose checkpoints were deleted, in order.
        """
        limit = datetime.now(timezone.utc) - older_than
        pruned = []
        with self._failures(self.location.path):
            for uri, _ in self._stored():
                # Its manifest is read right before it is deleted: a newer one may have taken its place.
                if names := checkpoints.outdated_files_of(self._storage, str(uri), limit):
                    self._delete(names)
                    pruned.append(uri)
            self._delete(checkpoints.orphans(self._storage, older_than))
        return sorted(pruned)

    def _stored(self, prefix: str = "") -> Iterator[tuple[ObjectURI, dict[str, Any]]]:
        for described in checkpoints.stored(self._storage, prefix, _tell_of_bad_manifest):
            try:
                uri = ObjectURI.parse(described["uri"])
            except ObjectURIError as error:
                log.warning("Passed over the checkpoint in %r: %s", described["path"], error)
                continue
            yield uri, described

    @cached_property
    def _storage(self) -> checkpoints.Storage:
        settings = self.location.storage()
        return checkpoints.Storage(settings["path"], settings["options"])

    def _delete(self, names: Iterable[str]) -> None:
        """Delete files in order; on S3 many at once, and without the empty folders that pyarrow would leave there."""
        if not self.location.path.startswith("s3://"):
            self._storage.delete(names)
            return
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, prefix = self.location.path.removeprefix("s3://").rstrip("/").partition("/")
        keys = [f"{prefix}/{name}".lstrip("/") for name in names]
        try:
            # The manifest comes first, alone: half a deletion leaves no checkpoint.
            for start, stop in [(0, 1), *((i, i + DELETED_AT_ONCE) for i in range(1, len(keys), DELETED_AT_ONCE))]:
                if keys[start:stop]:
                    S3Hook(self.location.aws_conn_id).delete_objects(bucket, keys[start:stop])
        except (BotoCoreError, ClientError) as error:
            raise CheckpointFailure(FailureKind.CHECKPOINT_ACCESS, self.location.path, str(error)) from error

    @contextmanager
    def _failures(self, uri: ObjectURI | str) -> Iterator[None]:
        try:
            yield
        except CheckpointFailure as failure:
            raise errors.exception_from(uri, failure.error) from failure
