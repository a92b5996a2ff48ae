"""The hook: everything that this package asks of a Ray cluster goes through it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook, in_task
from airflow_ray.client import errors
from airflow_ray.client.by_value import pickled_by_value
from airflow_ray.client.checkpoints.credentials import have_expiring_credentials, targets
from airflow_ray.client.checkpoints.location import CheckpointLocation, of_producer, resolve
from airflow_ray.client.connection.link import open_session
from airflow_ray.client.connection.settings import RaySettings, settings_of
from airflow_ray.client.submission.fingerprint import fingerprint
from airflow_ray.client.submission.modules import modules_around
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.submission.payload import pack
from airflow_ray.client.submission.uri_policy import require_allowed
from airflow_ray.client.transfer.pieces import LARGE_DOWNLOAD_BYTES, LARGE_UPLOAD_BYTES, Download, Transfer, Upload
from airflow_ray.cluster.protocol import REFRESH_SECONDS
from airflow_ray.cluster.tuning.search import search
from airflow_ray.cluster.values.pieces import Departing
from airflow_ray.exceptions import (
    ObjectURIError,
    RayAuthenticationError,
    RayCheckpointAccessError,
    RayConfigurationError,
    RayConnectionError,
    RayObjectLostError,
    RayPicklingError,
    RayVersionMismatchError,
    RayWaitTimeoutError,
)
from airflow_ray.object_uri import RETURN_VALUE, ObjectURI, quote_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_ray.client.connection.session import Session


POLL_SECONDS = 10.0


RECONNECT_SECONDS = 1.0


LARGE_PAYLOAD_BYTES = 1024 * 1024


RESTORE_ROUNDS = 3


@dataclass(frozen=True)
class Progress:
    """News of a piece of work.

    :param state: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED or LOST.
    :param lines: new log lines.
    :param skipped: how many lines before them were dropped because nobody read them in time.
    :param detail: what PENDING work waits for.
    :param record: once the state is final, what :meth:`RayHook.describe` returns.
    :param value: once SUCCEEDED, the value of work with ``result="value"``.
    """

    state: str
    lines: list[str]
    skipped: int = 0
    detail: str | None = None
    record: dict[str, Any] | None = None
    value: Any = None


class RayHook(BaseHook):
    """Runs callables on a Ray cluster and reads what they left in its object store.

    Each method connects by itself; within ``with hook.connect():`` all of them share one connection,
    which takes over a second to make in ``client`` mode. A hook belongs to the thread that uses it.

    :param ray_conn_id: Airflow connection of type ``ray``.

    >>> uri = ObjectURI("ray_default", "my_dag", "my_run", "my_task")
    >>> with RayHook().connect() as hook:  # doctest: +SKIP
    ...     hook.submit(sum, [1, 2, 3], uri=uri)
    ...     hook.get(uri)
    6
    """

    conn_name_attr = "ray_conn_id"
    default_conn_name = "ray_default"
    conn_type = "ray"
    hook_name = "Ray"

    def __init__(self, ray_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.ray_conn_id = ray_conn_id
        self._session: Session | None = None
        self._connection = ExitStack()
        self._expiring: dict[str, tuple[Callable[[], dict[str, Any]], float]] = {}

    @cached_property
    def settings(self) -> RaySettings:
        """What the connection says.

        :raises RayConfigurationError: a field of the connection is wrong.
        """
        return settings_of(self.get_connection(self.ray_conn_id))

    @contextmanager
    def connect(self) -> Iterator[RayHook]:
        """Hold one connection for as long as the context lasts.

        :raises RayConnectionError: the cluster did not answer within ``connect_timeout`` seconds, asks
            for a token, or runs another version of Ray or Python; the subclass and the text tell which.
        """
        if self._session is not None:
            yield self
            return
        with ExitStack() as self._connection:
            self._session = self._connection.enter_context(open_session(self.settings))
            try:
                yield self
            finally:
                self._session = None

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        uri: ObjectURI | str,
        kwargs: dict[str, Any] | None = None,
        code_folders: Iterable[str] = (),
        generation: str | None = None,
        holder: str | None = None,
        **options: Any,
    ) -> ObjectURI:
        """Start a callable on the cluster in place of any earlier work under the same URI.

        Given a generation, the same work that is under way or done already is left to go on instead: see
        :meth:`acknowledge`. It is the same if the generation is, and callable, helper modules, arguments and options.

        :param fn: the callable, pickled by value with the modules of its folder.
        :param args: its arguments; object URIs in them, however nested, arrive as the objects.
        :param uri: the name of the result.
        :param kwargs: its keyword arguments, likewise.
        :param code_folders: further folders with modules that the cluster lacks.
        :param generation: any text that the tries of a task have in common, and another one when it is cleared.
        :param holder: any text that tells who submits, for :meth:`cancel`.
        :param options: fields of :class:`~airflow_ray.hooks.options.RemoteOptions`.
        :returns: ``uri``, parsed.
        :raises RayConfigurationError: an option is wrong, or Ray does not take it.
        :raises ObjectURIError: an argument is a malformed object URI or one of another connection.
        :raises RayPicklingError: the callable or an argument cannot be pickled.
        :raises RayObjectLostError: an argument names an object that does not exist and has no checkpoint.
        :raises RayCheckpointError: an argument is lost and its checkpoint cannot be read.
        """
        uri = self._own_uri(uri)
        remote_options = RemoteOptions(**options)
        payload = pack(fn, args, kwargs or {}, code_folders)
        inputs = {(each.record_id, each.key): require_allowed(self._own_uri(each)) for each in payload.inputs}
        work = {
            "sources": payload.sources,
            "options": remote_options.for_ray(self.settings.runtime_env),
            "fingerprint": generation
            and fingerprint(fn, args, kwargs or {}, payload.sources, remote_options, generation),
            "holder": holder,
            "as_json": remote_options.result == "value",
            "multiple_outputs": remote_options.multiple_outputs,
            "scheduling_timeout": remote_options.scheduling_timeout,
            "ends_process": fn is search,
            "ttl": self.settings.object_ttl,
            **self._targets(uri, remote_options),
        }
        with self.connect():
            work["payload"] = self._sent(payload.pickled)
            error = self._submitted(uri, inputs, work)
        if error is not None and error["kind"] == "attached":
            self.log.info("%s is %s already, by an earlier try: going on with that", uri, error["state"])
        elif error is None:
            self.log.info("Submitted %s", uri)
        else:
            raise errors.exception_from(inputs.get((error.get("record_id", ""), error.get("key", "")), uri), error)
        return uri

    def follow(
        self, uri: ObjectURI | str, poll_interval: float = POLL_SECONDS, offset: int | None = None
    ) -> Iterator[Progress]:
        """Yield news of the work for ``uri`` as it comes, last with its final state.

        A connection that breaks meanwhile is made again.

        :param poll_interval: seconds until it yields without news; news comes at once.
        :param offset: number of the log line to begin with; None begins where an earlier follower stopped.
        :raises RayConnectionError: the connection broke, and could not be made again within ``connect_timeout``.
        """
        uri = self._own_uri(uri)
        with self.connect():
            while True:
                try:
                    answer = self._call("poll", uri.record_id, offset, poll_interval)
                except RayConnectionError as error:
                    self._connect_again(error)
                    continue
                self._refresh_credentials(uri)
                offset = answer["offset"]
                text = answer.get("value_json")
                yield Progress(
                    answer["state"],
                    answer["lines"],
                    answer["skipped"],
                    answer.get("detail"),
                    answer.get("record"),
                    None if text is None else json.loads(text),
                )
                if "record" in answer or answer["state"] == "LOST":
                    return

    def wait(self, uri: ObjectURI | str, timeout: float | None = None) -> dict[str, Any]:
        """Return the record of ``uri``, as :meth:`describe` does, when its work has succeeded.

        :param timeout: seconds to wait; None waits without limit.
        :raises RayWaitTimeoutError: the work had not ended by then; it goes on.
        :raises AirflowRayError: the work failed, was cancelled or is not known; the subclass tells which.
        """
        uri = self._own_uri(uri)
        deadline = None if timeout is None else time.monotonic() + timeout
        interval = POLL_SECONDS if timeout is None else min(POLL_SECONDS, timeout)
        for progress in self.follow(uri, interval):
            if progress.state == "SUCCEEDED" and progress.record is not None:
                return progress.record
            if progress.record is None and deadline is not None and time.monotonic() > deadline:
                raise RayWaitTimeoutError(f"The work for {uri} is {progress.state} after {timeout:g} seconds")
        raise errors.exception_for(uri, progress.record or {"state": progress.state})

    def status(self, uri: ObjectURI | str) -> str:
        """Return PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED, or LOST for what is not known."""
        return str(self.describe(uri)["state"])

    def describe(self, uri: ObjectURI | str) -> dict[str, Any]:
        """Return what is known of the work for ``uri`` as plain data: state, times, node, outputs, error."""
        uri = self._own_uri(uri)
        record: dict[str, Any] | None = self._call("describe", uri.record_id)
        return record or {"record_id": uri.record_id, "state": "LOST"}

    def logs(self, uri: ObjectURI | str, offset: int = 0) -> list[str]:
        """Return the log lines of the work for ``uri`` that are still kept, from line ``offset`` on."""
        uri = self._own_uri(uri)
        kept: list[str] = []
        with self.connect():
            while lines := (answer := self._call("poll", uri.record_id, offset, 0.0))["lines"]:
                kept += lines
                offset = answer["offset"]
        return kept

    def acknowledge(self, uri: ObjectURI | str) -> None:
        """Let the next :meth:`submit` for ``uri`` begin anew, though this work was the same and has succeeded."""
        self._call("acknowledge", self._own_uri(uri).record_id)

    def is_available(self, uri: ObjectURI | str) -> bool:
        """Return whether the object that ``uri`` names can be read: from the cluster, or from its checkpoint.

        :returns: False while it is being made, and for one that nobody has begun to make.
        :raises RayObjectLostError: it was there and is lost, and it has no checkpoint.
        :raises AirflowRayError: the work that makes it failed or was cancelled; the subclass tells which.
        """
        uri = self._own_uri(uri)
        with self.connect():
            self._call("forget_if_lost", uri.record_id, uri.key)
            record = self.describe(uri)
        state = record["state"]
        if state in ("FAILED", "CANCELLED"):
            raise errors.exception_for(uri, record)
        if state == "SUCCEEDED" and uri.key in record["lost"]:
            if not self._has_checkpoint(uri):
                raise errors.object_lost(uri, "it was lost with the node that held it, and it has no checkpoint")
            return True
        if state == "SUCCEEDED" and uri.key not in record["outputs"]:
            raise errors.object_lost(uri, "the task has no output of that name")
        return state == "SUCCEEDED" or (state == "LOST" and self._has_checkpoint(uri))

    def dashboard_page(self, uri: ObjectURI | str) -> str | None:
        """Return the address of the work's page in the Ray dashboard, or None where the cluster runs none."""
        page: dict[str, str] | None = self._call("dashboard_page", self._own_uri(uri).record_id)
        if page is None:
            return None
        base = self.settings.dashboard_url
        if not base and page["address"]:
            # A head names itself as it sees itself.
            host = self.settings.address.partition(":")[0]
            base = f"http://{page['address'].replace('127.0.0.1', host) if host != 'auto' else page['address']}"
        return f"{base.rstrip('/')}/#/jobs/{page['job_id']}/tasks/{page['task_id']}" if base else None

    def cancel(self, uri: ObjectURI | str, holder: str | None = None) -> bool:
        """Stop the work for ``uri`` with all it started and return whether there was any to stop.

        :param holder: stop it only if this one has submitted it, or was the last to go on with it.
        """
        return bool(self._call("cancel", self._own_uri(uri).record_id, holder))

    def get(self, uri: ObjectURI | str) -> Any:
        """Return the object that ``uri`` names: without a copy where this process runs on its node.

        One that is lost is restored from its checkpoint, if it has one. Over Ray Client a Modin frame or a Ray Data
        Dataset arrives as a frame of pandas.

        :raises RayObjectLostError: there is no such object, or no longer, and no checkpoint of it.
        :raises RayCheckpointError: the object is lost and its checkpoint cannot be read.
        :raises RayPicklingError: the object cannot be unpickled in this process.
        """
        uri = self._own_uri(uri)
        reason = None
        with self.connect():
            for _ in range(RESTORE_ROUNDS):
                refs, size, error = self._call("find", uri.record_id, uri.key, collect=self._is_client)
                if error is not None and error["state"] in (None, "LOST"):
                    self._restore([uri])
                elif error is not None:
                    raise errors.exception_from(uri, error)
                else:
                    try:
                        return self._fetched(uri, refs[0], size)
                    except RayObjectLostError as lost:
                        reason = str(lost)
                        self._call("forget_if_lost", uri.record_id, uri.key)
        raise errors.object_lost(uri, reason)

    def put(self, value: Any, *, uri: ObjectURI | str) -> ObjectURI:
        """Place ``value`` in the object store under ``uri``, in place of any earlier object there.

        :returns: ``uri``, parsed.
        :raises RayPicklingError: the value cannot be pickled, or not be unpickled on the cluster.
        """
        from airflow_ray.cluster.values.description import describe_value

        uri = self._own_uri(uri)
        with self.connect():
            sent, objects = self._taken_apart(value)
            error = self._call(
                "adopt",
                uri.record_id,
                uri.key,
                [self._put(sent, in_pieces=not objects)],
                objects,
                describe_value(value),
                self.settings.object_ttl,
            )
        if error is not None:
            raise errors.exception_from(uri, error)
        return uri

    def release(
        self, uri: ObjectURI | str | None = None, *, dag_id: str | None = None, run_id: str | None = None
    ) -> list[ObjectURI]:
        """Free objects, and stop work that is under way; their checkpoints stay.

        :param uri: free all outputs of the task that made this one.
        :param dag_id: free those of all tasks of a DAG.
        :param run_id: free those of all tasks of a run of it.
        :returns: the objects that were freed, in the order in which they were made.
        :raises RayConfigurationError: neither a URI nor a DAG is named.
        """
        if uri is not None:
            record_ids = [self._own_uri(uri).record_id]
        elif dag_id is not None:
            record_ids = list(dict.fromkeys(each["record_id"] for each in self._listed(dag_id, run_id)))
        else:
            raise RayConfigurationError("release needs an object URI, or a dag_id with or without a run_id")
        return [self._uri_of(*freed) for freed in self._call("release", record_ids)]

    def list_objects(self, dag_id: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return what the cluster holds, oldest first, as plain data.

        Of each object that is ``uri``, ``state``, ``type``, ``rows``, ``columns``, ``bytes``, ``node``, ``age`` in
        seconds since its work ended, ``checkpoint`` (its path) and ``spilled`` (whether Ray has ever written it to disk
        for lack of room). Work that has no outputs is listed under the key ``return_value``. What is not known is None.

        :param dag_id: only those of a DAG.
        :param run_id: only those of this run.
        """
        objects = []
        for each in self._listed(dag_id, run_id):
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
                }
            )
        return objects

    def test_connection(self) -> tuple[bool, str]:
        """Check the connection step by step; called by the Test button of Airflow's UI.

        :returns: whether all works, and what was found, or the step that failed and what to do.
        """
        from airflow_ray.client.doctor.diagnosis import summary

        return summary(self)

    @staticmethod
    def get_connection_form_widgets() -> dict[str, Any]:
        """Return the fields of the connection form; called by Airflow 3.1 and 3.2."""
        from airflow_ray.hooks.connection_form import widgets

        return widgets()

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, Any]:
        """Return how the form shows the standard fields; called by Airflow 3.1 and 3.2."""
        from airflow_ray.hooks.connection_form import field_behaviour

        return field_behaviour()

    def checkpoint_location(self, path: str | None = None, aws_conn_id: str | None = None) -> CheckpointLocation:
        """Return where checkpoints go: as told here, else by the connection, the AWS connection or the configuration.

        :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.
        :param aws_conn_id: AWS connection with the credentials.
        :raises RayConfigurationError: no path is set anywhere, or what is set is wrong.
        """
        location = self._resolved_location(path, aws_conn_id)
        if location is None:
            raise RayConfigurationError(
                f"There is no path for checkpoints: set checkpoint_path of the task or of the connection "
                f"{self.ray_conn_id!r}, bucket and prefix in the extra of the AWS connection, or "
                "[airflow_ray] checkpoint_path"
            )
        return location

    def storage_location(self, path: str | None, aws_conn_id: str | None = None) -> CheckpointLocation | None:
        """Return where work may write what is no checkpoint of its outputs: as told here, else where those go.

        :param path: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``file:///folder`` or a folder that all nodes see.
        :param aws_conn_id: AWS connection with the credentials.
        :returns: None where no path is set anywhere.
        :raises RayConfigurationError: what is set is wrong.
        """
        if path and path.startswith("/"):
            return CheckpointLocation(f"file://{path}", aws_conn_id)
        return self._resolved_location(path, aws_conn_id)

    @property
    def _connected(self) -> Session:
        if self._session is None:
            raise RayConnectionError("Not connected: use the hook within hook.connect()")
        return self._session

    def _connect_again(self, broken: RayConnectionError) -> None:
        """Make a new connection in place of one that broke."""
        self.log.warning("%s Connecting again.", broken)
        self._connection.close()
        deadline = time.monotonic() + self.settings.connect_timeout
        while True:
            left = max(1.0, deadline - time.monotonic())
            try:
                opened = open_session(replace(self.settings, connect_timeout=left))
                self._session = self._connection.enter_context(opened)
            except (RayAuthenticationError, RayVersionMismatchError):
                raise
            except RayConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RECONNECT_SECONDS)
            else:
                self.log.info("Connected again")
                return

    def _submitted(
        self, uri: ObjectURI, inputs: dict[tuple[str, str], ObjectURI], work: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Submit work, restoring inputs that are lost, and return None or why it was not submitted."""
        sources = dict.fromkeys(inputs, "store")
        for _ in range(RESTORE_ROUNDS):
            listed = [(*name, source) for name, source in sources.items()]
            error: dict[str, Any] | None = self._call("submit", uri.record_id, inputs=listed, **work)
            if not (error and error.get("lost")):
                break
            lost = [tuple(name) for name in error["lost"]]
            self._restore([inputs[name] for name in lost], work["options"].get("runtime_env"))
            sources.update(dict.fromkeys(lost, "checkpoint"))
        return error

    def _restore(self, uris: list[ObjectURI], runtime_env: dict[str, Any] | None = None) -> None:
        """Bring lost objects back from their checkpoints.

        :param runtime_env: that of the work that needs them, which can read them.
        """
        wanted = []
        for uri in uris:
            location = self._checkpoint_of(uri)
            if location is None:
                reason = "its owner does not know it, and it has no checkpoint"
                if others := self._connected.owners_of_other_versions():
                    reason += (
                        f"; but {', '.join(others)} of another version of airflow-ray may know it. Let all of Airflow "
                        "use one version"
                    )
                raise errors.object_lost(uri, reason)
            self.log.info("%s is not in the cluster any more: restoring it from %s", uri, location.path)
            wanted.append((uri.record_id, uri.key, location.target(uri.work)))
        started = time.monotonic()
        for uri, error in zip(uris, self._call("restore", wanted, runtime_env, self.settings.object_ttl), strict=True):
            if error is not None:
                raise errors.not_restored(uri, error)
        self.log.info("Restored what was lost in %.1f s", time.monotonic() - started)

    def _checkpoint_of(self, uri: ObjectURI) -> CheckpointLocation | None:
        """Return where the checkpoint of a lost object should be.

        In a task, only what the producing task told counts: what else lies there may be of an earlier run.
        """
        return of_producer(uri) if in_task() else self._resolved_location()

    def _has_checkpoint(self, uri: ObjectURI) -> bool:
        from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook

        location = self._checkpoint_of(uri)
        return location is not None and S3CheckpointHook(location.aws_conn_id, location.path).exists(uri)

    def credentials_expire(self, uri: ObjectURI | str) -> bool:
        """Return whether the work for ``uri``, submitted by this hook, has credentials of a role."""
        return self._own_uri(uri).record_id in self._expiring

    def _resolved_location(self, path: str | None = None, aws_conn_id: str | None = None) -> CheckpointLocation | None:
        settings = self.settings
        return resolve(path or settings.checkpoint_path, aws_conn_id or settings.checkpoint_conn_id)

    def _targets(self, uri: ObjectURI, options: RemoteOptions) -> dict[str, Any]:
        """Return where the work may write, its checkpoints and other files, with the credentials for it."""
        checkpoint = storage = None
        if options.checkpoint:
            checkpoint = self.checkpoint_location(options.checkpoint_path, options.checkpoint_source)
        if options.storage_path:
            storage = CheckpointLocation(options.storage_path, options.storage_conn_id)
        required = options.checkpoint is True
        made = targets(uri, checkpoint, storage, required)
        if have_expiring_credentials(made):
            self._expiring[uri.record_id] = lambda: targets(uri, checkpoint, storage, required), time.monotonic()
        return made

    def _refresh_credentials(self, uri: ObjectURI) -> None:
        """Give the owner new credentials in place of those that last an hour or so, while the work goes on."""
        made, made_at = self._expiring.get(uri.record_id, (None, 0.0))
        if made is not None and time.monotonic() - made_at > REFRESH_SECONDS:
            try:
                self._call("refresh_credentials", uri.record_id, **made())
            except RayCheckpointAccessError as error:
                self.log.warning("No new credentials for %s, the earlier ones stay: %s", uri, error)
            self._expiring[uri.record_id] = made, time.monotonic()

    @property
    def _is_client(self) -> bool:
        return self.settings.mode == "client"

    def _moved(self, transfer: Transfer) -> bool:
        """Run a transfer over as many connections as it takes, if each of them gets on with it."""
        moved = -1
        while True:
            try:
                return transfer.run(self._connected)
            except RayConnectionError as error:
                if transfer.moved == moved:
                    raise
                moved = transfer.moved
                self._connect_again(error)

    def _fetched(self, uri: ObjectURI, ref: Any, size: int) -> Any:
        import ray
        from ray.exceptions import ObjectLostError, RaySystemError

        try:
            if self._is_client and size >= LARGE_DOWNLOAD_BYTES:
                download = Download(uri, ref, self.log.info)
                if self._moved(download):
                    return self._connected.run(download.value)
            return self._connected.run(lambda: ray.get(ref))
        except ObjectLostError as lost:
            raise errors.object_lost(uri, str(lost)) from lost
        except (RaySystemError, ImportError) as unreadable:
            raise RayPicklingError(
                f"{uri} cannot be unpickled in this process, which needs the packages it was made with: {unreadable}"
            ) from unreadable

    def _listed(self, dag_id: str | None, run_id: str | None) -> list[dict[str, Any]]:
        quoted = [None if part is None else quote_part(part) for part in (dag_id, run_id)]
        listed: list[dict[str, Any]] = self._call("list_objects", *quoted)
        return listed

    def _uri_of(self, record_id: str, key: str) -> ObjectURI:
        return ObjectURI.of_record(self.ray_conn_id, record_id, key)

    def _taken_apart(self, value: Any) -> tuple[Any, list[Any]]:
        """Return a value without the Ray objects inside it, which end with this connection, and their refs."""
        import airflow_ray.cluster
        from airflow_ray.cluster.values.inner_objects import without_objects

        def take_apart() -> tuple[Any, list[Any]]:
            with pickled_by_value([airflow_ray.cluster, *modules_around(value)]):
                return without_objects(value)

        return self._connected.run(take_apart)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with self.connect():
            return self._connected.call(method, *args, **kwargs)

    def _sent(self, pickled: bytes) -> Any:
        """Return what the owner is sent: large pickles as a ref in a list, to keep them out of its heap."""
        return pickled if len(pickled) < LARGE_PAYLOAD_BYTES else [self._put(pickled)]

    def _put(self, value: Any, in_pieces: bool = True) -> Any:
        """Return what the owner knows a value by: its ref, or the name of its upload."""
        import ray

        in_pieces = in_pieces and self._is_client

        def put() -> Any:
            with pickled_by_value(modules_around(value)):
                departing = Departing(value) if in_pieces else None
                return departing if departing and departing.pieces.bytes >= LARGE_UPLOAD_BYTES else ray.put(value)

        try:
            sent = self._connected.run(put)
            if not isinstance(sent, Departing):
                return sent
            upload = Upload(sent, type(value).__name__, self.log.info)
            self._moved(upload)
            return upload.name
        except (TypeError, AttributeError, ValueError) as error:
            raise RayPicklingError(
                f"A value of type {type(value).__name__} cannot be pickled, so it cannot be placed in Ray's "
                f"object store: {error}"
            ) from error
        # The process that serves a Ray Client unpickles what it is sent.
        except ImportError as error:
            raise RayPicklingError(
                f"A value of type {type(value).__name__} cannot be unpickled on the Ray cluster, which needs the "
                f"packages it was made with: {error}"
            ) from error

    def _own_uri(self, uri: ObjectURI | str) -> ObjectURI:
        parsed = ObjectURI.parse(uri)
        if parsed.conn_id != self.ray_conn_id:
            raise ObjectURIError(
                f"{parsed} is an object of the connection {parsed.conn_id!r}, and this is {self.ray_conn_id!r}: "
                "an object cannot be read through another cluster's connection"
            )
        return parsed
