"""The way of a packed call to the cluster: in one call where it is small, and not at all where it is there already."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client import errors
from airflow_ray.client.checkpoints.recovery import restore
from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from airflow_ray.client.connection.link import Link
    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.cluster.protocol import DashboardPage, SubmitAnswer
    from airflow_ray.object_uri import ObjectURI

LARGE_PAYLOAD_BYTES = 1024 * 1024
RESTORE_ROUNDS = 3

log = logging.getLogger(__name__)


class Submission(NamedTuple):
    """Work that was submitted, or that was there already.

    :param uri: the name of its result.
    :param dashboard_page: address of its page in the Ray dashboard; None where the cluster runs none.
    """

    uri: ObjectURI
    dashboard_page: str | None


class Submitter:
    """Submits the work for one object URI.

    :param link: to the cluster; it is connected.
    :param uri: the name of the result.
    :param inputs: the object URI of each input, by record id and key.
    :param attempt: ``fingerprint``, ``holder``, ``task_try``, ``checkpoint`` and ``storage``, as
        :meth:`~airflow_ray.cluster.owner.submissions.Submissions.attach` takes them.
    """

    def __init__(
        self, link: Link, uri: ObjectURI, inputs: dict[tuple[str, str], ObjectURI], attempt: dict[str, Any]
    ) -> None:
        self._link = link
        self._uri = uri
        self._inputs = inputs
        self._attempt = attempt

    def submit(self, pickled: bytes, work: dict[str, Any]) -> Submission:
        """Attach to the same work of an earlier try, or else have it begin.

        :param pickled: the call.
        :param work: what else :meth:`~airflow_ray.cluster.owner.submissions.Submissions.submit` takes.
        :raises AirflowRayError: as :meth:`airflow_ray.hooks.ray.RayHook.submit`.
        """
        is_large = len(pickled) >= LARGE_PAYLOAD_BYTES
        answer: SubmitAnswer = {}
        # What is large is sent only if it is needed.
        if is_large and self._attempt["fingerprint"]:
            answer = self._link.call("attach", self._uri.record_id, **self._attempt)
        if not answer:
            answer = self._begin(pickled, {**work, **self._attempt})
        if error := answer.get("error"):
            missing = self._inputs.get((error.get("record_id", ""), error.get("key", "")))
            raise errors.exception_from(missing or self._uri, error)
        state = answer.get("attached")
        if state == State.SUCCEEDED:
            log.info("%s was made already, by an earlier try: taking that, and nothing runs again", self._uri)
        elif state:
            log.info("%s is %s already, by an earlier try: going on with that", self._uri, state)
        elif reason := answer.get("anew"):
            log.info("Submitted %s anew, not going on with the work of an earlier try: %s", self._uri, reason)
        else:
            log.info("Submitted %s", self._uri)
        return Submission(self._uri, _dashboard_page(self._link.settings, answer.get("page")))

    def _begin(self, pickled: bytes, work: dict[str, Any]) -> SubmitAnswer:
        """Submit work, restoring inputs that are lost."""
        sources = dict.fromkeys(self._inputs, "store")
        for _ in range(RESTORE_ROUNDS):
            inputs = [(*name, source) for name, source in sources.items()]
            answer = self._submitted(pickled, {**work, "inputs": inputs, "submission": uuid.uuid4().hex})
            lost = [tuple(name) for name in answer.get("error", {}).get("lost", ())]
            if not lost:
                break
            restore(self._link, [self._inputs[name] for name in lost], work["options"].get("runtime_env"))
            sources.update(dict.fromkeys(lost, "checkpoint"))
        return answer

    def _submitted(self, pickled: bytes, work: dict[str, Any]) -> SubmitAnswer:
        """Submit work once, also where the connection breaks before the answer has come."""

        def submit() -> SubmitAnswer:
            # As a ref in a list, it stays out of the heap of the owner; a ref ends with its connection.
            payload = [self._link.send(pickled)[0]] if len(pickled) >= LARGE_PAYLOAD_BYTES else pickled
            answer: SubmitAnswer = self._link.call_same("submit", self._uri.record_id, payload=payload, **work)
            return answer

        return self._link.through_breaks(submit)


def _dashboard_page(settings: RaySettings, page: DashboardPage | None) -> str | None:
    """Return the address of the work's page in the Ray dashboard, or None where the cluster runs none."""
    if page is None:
        return None
    base = settings.dashboard_url
    if not base and page["address"]:
        # A head names itself as it sees itself.
        host = settings.address.partition(":")[0]
        base = f"http://{page['address'].replace('127.0.0.1', host) if host != 'auto' else page['address']}"
    return f"{base.rstrip('/')}/#/jobs/{page['job_id']}/tasks/{page['task_id']}" if base else None
