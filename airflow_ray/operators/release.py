"""The operator that frees objects in a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from airflow_ray._compat import BaseOperator
from airflow_ray.client.metrics import ask_totals
from airflow_ray.client.submission.uri_policy import require_allowed
from airflow_ray.exceptions import RayClusterGoneError, RayConfigurationError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_ray.client.client import RayClient


class RayReleaseOperator(BaseOperator):
    """Frees what the Ray tasks of its own DAG run have left in the object store, or only the objects that it is given.

    Made to be the teardown of a DAG: ``RayReleaseOperator(task_id="release").as_teardown(setups=first_ray_task)``
    frees them also when a task in between has failed. Work that is still under way is stopped. Checkpoints stay. A node
    that holds nothing any more can be taken away by an autoscaler. Where the cluster of the run is gone, so are its
    objects, and there is nothing to do.

    :param object_uri: object URIs, one or however nested in lists and dicts (templated): all outputs of the tasks that
        made them are freed. None, the default, takes all of the DAG run.
    :param ray_conn_id: Airflow connection of type ``ray`` whose objects are freed where ``object_uri`` is None
        (templated).
    :param keep: ``"checkpoint"`` writes the checkpoint of each object that has none before any is freed, where the
        connection says: later tasks get it from there. Nothing is freed where one could not be written.
    :raises ObjectURIError: what the template gave holds something that is not an object URI.
    :raises RayConfigurationError: ``keep`` is something else, or no path for checkpoints is set.

    >>> release = RayReleaseOperator(task_id="release")
    """

    template_fields: Sequence[str] = ("object_uri", "ray_conn_id")
    ui_color = "#d6eaf8"
    takes_object_uris = True

    def __init__(
        self,
        *,
        object_uri: Any = None,
        ray_conn_id: str = "ray_default",
        keep: Literal["checkpoint"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if keep not in ("checkpoint", None):
            raise RayConfigurationError(f"keep must be 'checkpoint' or None, got {keep!r}")
        self.keep = keep
        self.object_uri = object_uri
        self.ray_conn_id = ray_conn_id
        # What is rendered may be None too, where a task has failed that should have made the object.
        self._frees_run = object_uri is None

    def execute(self, context: Context) -> None:
        """Free the objects."""
        from airflow_ray.client.client import RayClient

        if self._frees_run:
            ti = context["ti"]
            with self._unless_gone(), RayClient(self.ray_conn_id, ti.dag_id, ti.run_id).connect() as client:
                if self.keep:
                    self._checkpoint(client, client.list_objects(ti.dag_id, ti.run_id))
                self._show(client.release(dag_id=ti.dag_id, run_id=ti.run_id))
                ask_totals(client.link)
            return
        uris = list({uri.work: uri for uri in _uris_in(self.object_uri)}.values())
        for conn_id in dict.fromkeys(uri.conn_id for uri in uris):
            with RayClient(conn_id).connect() as client:
                own = [uri for uri in uris if uri.conn_id == conn_id]
                for uri in own if self.keep else ():
                    with self._unless_gone():
                        held = client.of(uri).list_objects(uri.dag_id, uri.run_id)
                        works = [each for each in held if ObjectURI.parse(each["uri"]).work == uri.work]
                        self._checkpoint(client.of(uri), works)
                for uri in own:
                    with self._unless_gone():
                        self._show(client.of(uri).release(uri))
                ask_totals(client.of(own[-1]).link)

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        try:
            yield
        except RayClusterGoneError as error:
            self.log.info("There is nothing to release. %s", error)

    def _checkpoint(self, client: RayClient, held: list[dict[str, Any]]) -> None:
        """Write the checkpoints that are to be kept, of what the cluster holds."""
        from airflow_ray.client.errand import checkpoint, without_checkpoint

        for uri in without_checkpoint(held):
            self.log.info("The checkpoint of %s is at %s", uri, checkpoint(client, ObjectURI.parse(uri)))

    def _show(self, freed: list[ObjectURI]) -> None:
        for uri in freed:
            self.log.info("Released %s", uri)
        if not freed:
            self.log.info("There was nothing to release")


def _uris_in(value: Any) -> Iterator[ObjectURI]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _uris_in(each)
    elif value is not None:
        yield require_allowed(ObjectURI.parse(value))
