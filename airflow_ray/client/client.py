"""What this package can ask of a Ray cluster: the verbs of the hook, and those that only its own parts use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.client import errors, following
from airflow_ray.client.checkpoints import from_gone_cluster, has_checkpoint, require_checkpoint, restore
from airflow_ray.client.connection.session import ObjectNotThere
from airflow_ray.client.of_cluster import OfCluster
from airflow_ray.client.submission.fingerprint import fingerprint
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.submission.payload import pack
from airflow_ray.client.submission.plain import plain
from airflow_ray.client.submission.submitter import Submission, Submitter
from airflow_ray.client.submission.uri_policy import require_allowed
from airflow_ray.cluster.protocol import State
from airflow_ray.cluster.tuning.search import search
from airflow_ray.cluster.values.description import describe_value
from airflow_ray.exceptions import (
    ObjectURIError,
    RayConfigurationError,
    RayConnectionError,
    RayObjectLostError,
)
from airflow_ray.object_uri import RETURN_VALUE, ObjectURI, quote_part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from airflow_ray.client.progress import Progress
    from airflow_ray.cluster.protocol import TaskTry

RESTORE_ROUNDS = 3


class RayClient(OfCluster):
    """The verbs of :class:`~airflow_ray.hooks.ray.RayHook`, which says what each takes, returns and raises, and more.

    It belongs to the thread that uses it.
    """

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        uri: ObjectURI | str,
        kwargs: dict[str, Any] | None = None,
        code_folders: Iterable[str] = (),
        generation: str | None = None,
        holder: str | None = None,
        checkpointed_as: ObjectURI | None = None,
        task_try: TaskTry | None = None,
        **options: Any,
    ) -> Submission:
        """Start a callable on the cluster in place of any earlier work under the same URI.

        :param checkpointed_as: whose checkpoints its outputs become; None for its own.
        :param task_try: the try of a task that this is for; None for work that only its generation tells.
        """
        uri = self._own_uri(uri)
        args, kwargs = self.plain(args), self.plain(kwargs or {})
        call = pack(fn, args, kwargs, code_folders)
        inputs = {(each.record_id, each.key): require_allowed(self._own_uri(each)) for each in call.inputs}
        remote_options = RemoteOptions(**options)
        attempt = {
            "fingerprint": generation and fingerprint(fn, args, kwargs, call.sources, remote_options, generation),
            "holder": holder,
            "task_try": task_try,
            **self.targets.of(checkpointed_as or uri, remote_options),
        }
        work = {
            "sources": call.sources,
            "options": remote_options.for_ray(self.settings.runtime_env),
            "as_json": remote_options.result == "value",
            "names": (remote_options.multiple_outputs, remote_options.max_items),
            "scheduling_timeout": remote_options.scheduling_timeout,
            "ends_process": remote_options.fresh_process or fn is search,
            "ttl": self.settings.object_ttl,
        }
        with self.link.connect():
            self.link.session.require_same_python()
            return Submitter(self.link, uri, inputs, attempt).submit(call.pickled, work)

    def plain(self, value: Any) -> Any:
        """Return arguments with lists in place of lazy sequences, and without what else only Airflow knows."""
        return plain(value, lambda text: self.get(require_allowed(self._own_uri(text))))

    def follow(
        self, uri: ObjectURI | str, poll_interval: float = following.POLL_SECONDS, offset: int | None = None
    ) -> Generator[Progress, None, None]:
        """Yield news of the work for ``uri`` as it comes, last with its final state; see :func:`following.follow`."""
        return following.follow(self.link, self.targets, self._own_uri(uri), poll_interval, offset)

    def wait(self, uri: ObjectURI | str, timeout: float | None = None) -> dict[str, Any]:
        """Return the record of ``uri``, as :meth:`describe` does, when its work has succeeded."""
        return following.wait(self.link, self.targets, self._own_uri(uri), timeout)

    def status(self, uri: ObjectURI | str) -> str:
        """Return PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED, or LOST for what is not known."""
        return str(self.describe(uri)["state"])

    def describe(self, uri: ObjectURI | str) -> dict[str, Any]:
        """Return what is known of the work for ``uri`` as plain data: state, times, node, outputs, error."""
        uri = self._own_uri(uri)
        record: dict[str, Any] | None = self.link.call("describe", uri.record_id)
        return record or {"record_id": uri.record_id, "state": State.LOST.value}

    def logs(self, uri: ObjectURI | str, offset: int = 0) -> list[str]:
        """Return the log lines of the work for ``uri`` that are still kept, from line ``offset`` on."""
        uri = self._own_uri(uri)
        kept: list[str] = []
        with self.link.connect():
            while lines := (answer := self.link.call("poll", uri.record_id, offset, 0.0))["lines"]:
                kept += lines
                offset = answer["offset"]
        return kept

    def is_available(self, uri: ObjectURI | str) -> bool:
        """Return whether the object that ``uri`` names can be read: from the cluster, or from its checkpoint.

        :returns: False while it is being made, and for one that nobody has begun to make.
        :raises RayObjectLostError: it was there and is lost, and it has no checkpoint.
        :raises AirflowRayError: the work that makes it failed or was cancelled; the subclass tells which.
        """
        uri = self._own_uri(uri)
        try:
            with self.link.connect():
                self.link.call("forget_if_lost", uri.record_id, uri.key)
                record = self.describe(uri)
        except RayConnectionError as error:
            require_checkpoint(self.link, uri, error)
            return True
        state = record["state"]
        if state in (State.FAILED, State.CANCELLED):
            raise errors.exception_for(uri, record)
        if state == State.SUCCEEDED and uri.key in record["lost"]:
            if not has_checkpoint(self.link, uri):
                raise errors.object_lost(uri, "it was lost with the node that held it, and it has no checkpoint")
            return True
        if state == State.SUCCEEDED and record["is_restored"] and uri.key not in record["outputs"]:
            return has_checkpoint(self.link, uri)
        if state == State.SUCCEEDED and uri.key not in record["outputs"]:
            raise errors.object_lost(uri, "the task has no output of that name")
        return state == State.SUCCEEDED or (state == State.LOST and has_checkpoint(self.link, uri))

    def cancel(self, uri: ObjectURI | str, holder: str | None = None) -> bool:
        """Stop the work for ``uri`` with all it started and return whether there was any to stop."""
        return bool(self.link.call("cancel", self._own_uri(uri).record_id, holder))

    def get(self, uri: ObjectURI | str) -> Any:
        """Return the object that ``uri`` names: without a copy where this process runs on its node."""
        uri = self._own_uri(uri)
        try:
            return self.get_there(uri)
        except RayConnectionError as error:
            return from_gone_cluster(self.link, uri, error)

    def get_there(self, uri: ObjectURI) -> Any:
        """Do so only from the cluster itself, whether that is one that comes and goes or not."""
        reason = None
        with self.link.connect():
            for _ in range(RESTORE_ROUNDS):
                try:
                    return self.link.fetch(uri)
                except ObjectNotThere as not_there:
                    if not_there.error["state"] not in (None, State.LOST):
                        raise errors.exception_from(uri, not_there.error) from not_there
                    restore(self.link, [uri])
                except RayObjectLostError as lost:
                    reason = str(lost)
                    self.link.call("forget_if_lost", uri.record_id, uri.key)
        raise errors.object_lost(uri, reason)

    def put(self, value: Any, *, uri: ObjectURI | str) -> ObjectURI:
        """Place ``value`` in the object store under ``uri``, in place of any earlier object there."""
        uri = self._own_uri(uri)

        def put() -> Any:
            sent, objects = self.link.send(value)
            described = describe_value(value)
            return self.link.call_same(
                "adopt", uri.record_id, uri.key, [sent], objects, described, self.link.settings.object_ttl
            )

        with self.link.connect():
            error = self.link.through_breaks(put)
        if error is not None:
            raise errors.exception_from(uri, error)
        return uri

    def release(
        self, uri: ObjectURI | str | None = None, *, dag_id: str | None = None, run_id: str | None = None
    ) -> list[ObjectURI]:
        """Free objects, and stop work that is under way; their checkpoints stay."""
        if uri is not None:
            freed = self.link.call("release", [self._own_uri(uri).record_id])
        elif dag_id is not None:
            freed = self.link.call("release", None, *_quoted(dag_id, run_id))
        else:
            raise RayConfigurationError("release needs an object URI, or a dag_id with or without a run_id")
        return [self._uri_of(*each) for each in freed]

    def list_objects(self, dag_id: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return what the cluster holds, oldest first, as plain data."""
        objects = []
        for each in self.link.call("list_objects", *_quoted(dag_id, run_id)):
            rows, columns = [*each.get("shape", ()), None, None][:2]
            checkpoint = each.get("checkpoint") or {}
            objects.append(
                {
                    "uri": str(self._uri_of(each["record_id"], each["key"] or RETURN_VALUE)),
                    "state": each["state"],
                    "type": each.get("type"),
                    "rows": rows,
                    "columns": columns,
                    "bytes": each.get("bytes"),
                    "node": each["node"],
                    "age": each["age"],
                    "checkpoint": checkpoint.get("path"),
                    "spilled": each["spilled"],
                    "detail": each.get("detail"),
                    "inputs": [str(self._uri_of(*name)) for name in each.get("inputs", ())],
                }
            )
        return objects

    def sample(self, uri: ObjectURI | str, rows: int, timeout: float) -> dict[str, Any]:
        """Return the first rows of an object as plain data, made on the cluster: the object itself stays there.

        :param rows: how many rows, or items of what is no table.
        :param timeout: seconds after which the answer is ``pending``, and there for who asks again.
        """
        uri = self._own_uri(uri)
        seen: dict[str, Any] = self.link.call("sample", uri.record_id, uri.key, rows, timeout)
        return seen

    def _uri_of(self, record_id: str, key: str) -> ObjectURI:
        return ObjectURI.of_record(self.conn_id, record_id, key)

    def _own_uri(self, uri: ObjectURI | str) -> ObjectURI:
        parsed = ObjectURI.parse(uri)
        if parsed.conn_id != self.conn_id:
            raise ObjectURIError(
                f"{parsed} is an object of the connection {parsed.conn_id!r}, and this is {self.conn_id!r}: "
                "an object cannot be read through another cluster's connection"
            )
        return parsed


def _quoted(*parts: str | None) -> list[str | None]:
    return [None if part is None else quote_part(part) for part in parts]
