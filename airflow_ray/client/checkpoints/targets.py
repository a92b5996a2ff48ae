"""What the owner is told of where work may write, and that while the work goes on the credentials are renewed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_ray.client.checkpoints.location import CheckpointLocation, require_location
from airflow_ray.cluster.protocol import REFRESH_SECONDS as REFRESH_SECONDS
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.link import Link
    from airflow_ray.client.submission.options import RemoteOptions
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)


def targets_of(
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


def have_expiring_credentials(targets: dict[str, Any]) -> bool:
    """Return whether these :func:`targets_of` work hold something with the credentials of a role."""
    storages = [(targets["checkpoint"] or {}).get("storage"), targets["storage"]]
    return any("session_token" in each["options"] for each in storages if each)


def not_renewed(uri: ObjectURI, error: Exception) -> str:
    """Return what a user is told where there are no new credentials."""
    return (
        f"The credentials with which the work for {uri} writes could not be renewed: {type(error).__name__}: {error}. "
        "The work goes on with those that it has, which last about an hour; new ones are asked for again in "
        f"{REFRESH_SECONDS / 60:.0f} minutes. Mend what the error names, which is most likely the AWS connection, "
        "before that time is over."
    )


class Targets:
    """Where the work may write that one link has submitted.

    :param link: to its owner.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._expiring: dict[str, tuple[Callable[[], dict[str, Any]], float]] = {}

    def of(self, uri: ObjectURI, options: RemoteOptions) -> dict[str, Any]:
        """Return where the work for ``uri`` may write, its checkpoints and other files, with the credentials for it."""
        settings = self._link.settings
        checkpoint = storage = None
        if options.checkpoint:
            checkpoint = require_location(settings, options.checkpoint_path, options.checkpoint_source)
        if options.storage_path:
            storage = CheckpointLocation(options.storage_path, options.storage_conn_id)
        required = options.checkpoint is True
        targets = targets_of(uri, checkpoint, storage, required)
        if have_expiring_credentials(targets):
            self._expiring[uri.record_id] = lambda: targets_of(uri, checkpoint, storage, required), time.monotonic()
        return targets

    def expire(self, uri: ObjectURI) -> bool:
        """Return whether the work for ``uri`` has credentials of a role, which last an hour or so."""
        return uri.record_id in self._expiring

    def refresh(self, uri: ObjectURI) -> None:
        """Give the owner new credentials in place of those that expire, while the work goes on.

        Where there are none the earlier ones stay, which a warning says once each time that they are asked for.
        """
        renew, renewed_at = self._expiring.get(uri.record_id, (None, 0.0))
        if renew is None or time.monotonic() - renewed_at <= REFRESH_SECONDS:
            return
        try:
            self._link.call("refresh_credentials", uri.record_id, **renew())
        except RayConnectionError:
            # Whoever follows the work finds the link broken too, and makes another: then it is time again.
            return
        # A connection that was changed, boto, a file that is gone: none of it is a reason to fail work that goes on.
        except Exception as error:
            log.warning("%s", not_renewed(uri, error))
        self._expiring[uri.record_id] = renew, time.monotonic()
