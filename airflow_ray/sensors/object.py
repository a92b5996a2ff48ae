"""The sensor that waits for objects in a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)
from airflow_ray.client.deferral import seconds_of_start, seconds_to_settle
from airflow_ray.client.submission.uri_policy import require_allowed as checked
from airflow_ray.exceptions import ObjectURIError, RayClusterGoneError, RayObjectLostError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ray.client.client import RayClient


class RayObjectSensor(BaseSensorOperator):
    """Waits until objects are in a Ray cluster, whichever task or DAG makes them.

    An object that does not exist yet is waited for. One whose work has failed or was cancelled fails the sensor at
    once, with the remote error.

    :param object_uri: the object URI, or a list of them, of one or several connections (templated).
    :param fail_if_lost: fail when an object was there, is lost and has no checkpoint, or when it belongs to a cluster
        of a DAG run that does not exist. False waits until somebody makes it, again or at all.
    :param deferrable: wait in Airflow's triggerer, without a slot of a worker. It goes before ``mode``.
    :param poke_interval: seconds between two looks; when deferred, an object that comes is seen at once.
    :raises ObjectURIError: what the template gave is not an object URI or a list of them.
    """

    template_fields: Sequence[str] = ("object_uri",)
    ui_color = "#d6eaf8"
    takes_object_uris = True

    def __init__(
        self,
        *,
        object_uri: str | list[str],
        fail_if_lost: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.object_uri = object_uri
        self.fail_if_lost = fail_if_lost
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Wait."""
        if not self.deferrable:
            return super().execute(context)
        start_seconds = seconds_of_start(context)
        resume = {"deadline": time.time() + self.timeout, "settle_seconds": seconds_to_settle(start_seconds)}
        try:
            return self._wait(context, resume)
        except Exception as error:
            # Airflow itself does it for a look of a sensor that is not deferrable, and after a wait.
            if self.never_fail or (self.soft_fail and isinstance(error, AirflowFailException)):
                said_by = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"The sensor is skipped, as {said_by} says: {error}") from error
            raise

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Go on when :class:`~airflow_ray.triggers.RayObjectTrigger` has waited.

        :param event: what the trigger tells.
        """
        from airflow_ray import triggers

        if event["status"] == triggers.TIMEOUT:
            raise AirflowSensorTimeout(f"The sensor has waited for timeout={self.timeout:g} seconds")
        error = triggers.error_of(event) if event["status"] == triggers.ERROR else None
        # The objects of a cluster that is gone may have checkpoints.
        if error is not None and not isinstance(error, RayClusterGoneError):
            raise error
        self._wait(context, event["resume"])

    def poke(self, context: Context) -> bool:
        """Return whether all objects are there."""
        from airflow_ray.client.client import RayClient

        uris = self._uris()
        with ExitStack() as stack:
            clients = {
                conn_id: stack.enter_context(RayClient(conn_id).connect()) for conn_id in {u.conn_id for u in uris}
            }
            return all([self._is_there(clients[uri.conn_id].of(uri), uri) for uri in uris])

    def _wait(self, context: Context, resume: dict[str, Any]) -> None:
        """Return if all objects are there, or else defer until they are."""
        from airflow_ray.triggers import RayObjectTrigger

        if not self.poke(context):
            trigger = RayObjectTrigger(
                [str(uri) for uri in self._uris()],
                poll_interval=self.poke_interval,
                deadline=resume["deadline"],
                resume=resume,
            )
            self.defer(trigger=trigger, method_name="execute_complete")

    def _uris(self) -> list[ObjectURI]:
        given = [self.object_uri] if isinstance(self.object_uri, (str, ObjectURI)) else self.object_uri
        if not isinstance(given, Sequence) or not given:
            raise ObjectURIError(f"object_uri must be an object URI or a list of them, got {self.object_uri!r}")
        return [checked(ObjectURI.parse(each)) for each in given]

    def _is_there(self, client: RayClient, uri: ObjectURI) -> bool:
        try:
            is_there = client.is_available(uri)
        except RayObjectLostError as error:
            if self.fail_if_lost:
                raise
            self.log.info("%s is not there yet. %s", uri, error)
            return False
        detail = None if is_there else client.describe(uri).get("detail")
        waits = f": the task that makes it waits for {detail}" if detail else ""
        self.log.info("%s is %s%s", uri, "there" if is_there else "not there yet", waits)
        return is_there
