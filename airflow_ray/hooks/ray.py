"""The hook: what Airflow knows this package's client by."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseHook
from airflow_ray.client.forks import cached_property
from airflow_ray.client.submission.callables import check_callable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_ray.client.client import RayClient
    from airflow_ray.object_uri import ObjectURI


class RayHook(BaseHook):
    """Runs callables on a Ray cluster and reads what they left in its object store.

    Each method connects by itself; within ``with hook.connect():`` all of them share one connection,
    which takes over a second to make in ``client`` mode. A hook belongs to the thread that uses it. Where the Airflow
    connection leads to a cluster for each DAG run, that of the object URI is used, or of the ids that are given; within
    ``with hook.connect():`` there is then a connection to each that was needed.

    :param ray_conn_id: Airflow connection of type ``ray``.

    >>> uri = ObjectURI("ray_default", "my_dag", "my_run", "my_task")
    >>> with RayHook().connect() as hook:  # doctest: +SKIP
    ...     hook.submit(sum, [1, 2, 3], uri=uri)
    ...     record = hook.wait(uri)
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

    @cached_property
    def client(self) -> RayClient:
        """What does the work; where there are several clusters, the way to the one for each."""
        from airflow_ray.client.client import RayClient

        return RayClient(self.ray_conn_id)

    @contextmanager
    def connect(self) -> Iterator[RayHook]:
        """Hold one connection for as long as the context lasts.

        :raises RayConnectionError: the cluster did not answer within ``connect_timeout`` seconds, asks
            for a token, or runs another version of Ray or Python; the subclass and the text tell which.
        """
        with self.client.connect():
            yield self

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

        Given a generation, the same work that is under way or done already is left to go on instead. It is the same if
        the generation is, and callable, helper modules, arguments and options; what is done already, if its inputs are
        those objects still.

        :param fn: the callable, pickled by value with the modules of its folder.
        :param args: its arguments; object URIs in them, however nested, arrive as the objects.
        :param uri: the name of the result.
        :param kwargs: its keyword arguments, likewise.
        :param code_folders: further folders with modules that the cluster lacks.
        :param generation: any text that the tries of a task have in common, and another one when it is cleared.
        :param holder: any text that tells who submits, for :meth:`cancel`.
        :param options: fields of :class:`~airflow_ray.client.submission.options.RemoteOptions`.
        :returns: ``uri``, parsed.
        :raises RayConfigurationError: an option is wrong, or Ray does not take it; or the callable is a generator
            function, or a task of Airflow.
        :raises ObjectURIError: an argument is a malformed object URI or one of another connection.
        :raises RayPicklingError: the callable or an argument cannot be pickled.
        :raises RayObjectLostError: an argument names an object that does not exist and has no checkpoint.
        :raises RayCheckpointError: an argument is lost and its checkpoint cannot be read.
        """
        # Before anything else: the connection may lead nowhere yet.
        check_callable(fn, "The callable")
        return (
            self.client.of(uri)
            .submit(
                fn,
                *args,
                uri=uri,
                kwargs=kwargs,
                code_folders=code_folders,
                generation=generation,
                holder=holder,
                **options,
            )
            .uri
        )

    def wait(self, uri: ObjectURI | str, timeout: float | None = None) -> dict[str, Any]:
        """Return the record of ``uri``, as :meth:`describe` does, when its work has succeeded.

        :param timeout: seconds to wait; None waits without limit.
        :raises RayWaitTimeoutError: the work had not ended by then; it goes on.
        :raises AirflowRayError: the work failed, was cancelled or is not known; the subclass tells which.
        """
        return self.client.of(uri).wait(uri, timeout)

    def status(self, uri: ObjectURI | str) -> str:
        """Return PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED, or LOST for what is not known."""
        return self.client.of(uri).status(uri)

    def describe(self, uri: ObjectURI | str) -> dict[str, Any]:
        """Return what is known of the work for ``uri`` as plain data: state, times, node, outputs, error."""
        return self.client.of(uri).describe(uri)

    def logs(self, uri: ObjectURI | str, offset: int = 0) -> list[str]:
        """Return the log lines of the work for ``uri`` that are still kept, from line ``offset`` on."""
        return self.client.of(uri).logs(uri, offset)

    def cancel(self, uri: ObjectURI | str, holder: str | None = None) -> bool:
        """Stop the work for ``uri`` with all it started and return whether there was any to stop.

        :param holder: stop it only if this one has submitted it, or was the last to go on with it.
        """
        return self.client.of(uri).cancel(uri, holder)

    def get(self, uri: ObjectURI | str) -> Any:
        """Return the object that ``uri`` names: without a copy where this process runs on its node.

        This process then stays connected as long as it uses the object or a part of it.

        One that is lost is restored from its checkpoint, if it has one. Where it is copied, a Modin frame or a
        Ray Data Dataset arrives as a frame of pandas.

        :raises RayObjectLostError: there is no such object, or no longer, and no checkpoint of it.
        :raises RayCheckpointError: the object is lost and its checkpoint cannot be read.
        :raises RayPicklingError: the object cannot be unpickled in this process.
        """
        return self.client.of(uri).get(uri)

    def put(self, value: Any, *, uri: ObjectURI | str) -> ObjectURI:
        """Place ``value`` in the object store under ``uri``, in place of any earlier object there.

        :returns: ``uri``, parsed.
        :raises RayPicklingError: the value cannot be pickled, or not be unpickled on the cluster.
        """
        return self.client.of(uri).put(value, uri=uri)

    def release(
        self, uri: ObjectURI | str | None = None, *, dag_id: str | None = None, run_id: str | None = None
    ) -> list[ObjectURI]:
        """Free objects, and stop work that is under way; their checkpoints stay.

        :param uri: free all outputs of the task that made this one.
        :param dag_id: free those of all tasks of a DAG.
        :param run_id: free those of all tasks of a run of it.
        :returns: the objects that were freed, in the order in which they were made.
        :raises RayConfigurationError: neither a URI nor a DAG is named.
        :raises RayClusterNotNamedError: the connection leads to a cluster for each run, no run is named, and Kubernetes
            is not asked which there are.
        """
        if uri is not None:
            return self.client.of(uri).release(uri)
        if dag_id is None:
            return self.client.release()
        freed = self.client.ask_each(dag_id, run_id, lambda client: client.release(dag_id=dag_id, run_id=run_id))
        return list(chain.from_iterable(freed.values()))

    def list_objects(self, dag_id: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return what the cluster holds, oldest first, as plain data.

        Of each object that is ``uri``, ``state``, ``type``, ``rows``, ``columns``, ``bytes``, ``node``, ``age`` in
        seconds since its work ended, ``checkpoint`` (its path) and ``spilled`` (whether Ray has ever written it to disk
        for lack of room). Its work tells ``detail``, what it waits for, and with its first object its ``inputs``.
        Work that has no outputs is listed under the key ``return_value``. What is not known is None.

        :param dag_id: only those of a DAG.
        :param run_id: only those of this run.
        :raises RayClusterNotNamedError: the connection leads to a cluster for each run, no run is named, and Kubernetes
            is not asked which there are.
        """
        found = self.client.ask_each(dag_id, run_id, lambda client: client.list_objects(dag_id, run_id))
        return list(chain.from_iterable(found.values()))

    def test_connection(self) -> tuple[bool, str]:
        """Check the connection step by step; called by the Test button of Airflow's UI.

        :returns: whether all works, and what was found, or the step that failed and what to do.
        """
        from airflow_ray.client.doctor.diagnosis import summary

        return summary(self.client)

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
