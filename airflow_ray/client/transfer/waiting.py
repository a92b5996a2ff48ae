"""What is told of an object while somebody gets it and nothing of it comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors
from airflow_ray.exceptions import AirflowRayError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from airflow_ray.client.connection.session import Session
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)


class WaitForObject:
    """Asks the owner why an object does not come, beside the call that gets it.

    :param session: the connection that it is to come over.
    :param uri: of the object.
    """

    def __init__(self, session: Session, uri: ObjectURI) -> None:
        self._session = session
        self._uri = uri
        self._asked: Future[Any] | None = None
        self._told: str | None = None

    def tell(self) -> None:
        """Say what the owner has answered since the last time, and ask it again.

        :raises RayObjectLostError: nobody can make the object again.
        :raises RayConnectionError: the connection broke.
        """
        # The object may come while the owner does not answer.
        if self._asked is not None and not self._asked.done():
            return
        if self._asked is not None:
            self._say(*self._answer(self._asked))
        self._asked = self._session.begin("check_get", self._uri.record_id, self._uri.key)

    def _answer(self, asked: Future[Any]) -> tuple[str | None, dict[str, Any] | None]:
        try:
            detail, error = asked.result()
        except AirflowRayError as refusal:
            # A gateway of an earlier release does not pass this question on.
            if type(refusal) is not AirflowRayError:
                raise
            return None, None
        return detail, error

    def _say(self, detail: str | None, error: dict[str, Any] | None) -> None:
        if error is not None:
            raise errors.object_lost(self._uri, error["message"])
        text = detail or f"the Ray cluster to send {self._uri}"
        if text != self._told:
            log.info("Waiting for %s", text)
            self._told = text
