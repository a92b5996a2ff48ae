"""Small functions of this package that run on the cluster, and leave no object there."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_ray import cluster
from airflow_ray._compat import in_task
from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.checkpoints import checkpoint_of, require_location, tell
from airflow_ray.cluster.protocol import State
from airflow_ray.cluster.values import preview
from airflow_ray.cluster.worker.outputs import output_of_name
from airflow_ray.exceptions import AirflowRayError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.client import RayClient


DAG_ID = "airflow_ray"


def run_errand(
    client: RayClient,
    function: Callable[..., Any],
    *args: Any,
    timeout: float | None = None,
    ray_options: dict[str, Any] | None = None,
) -> Any:
    """Return what a function of :mod:`airflow_ray.cluster` returns on the cluster, where it leaves nothing.

    It reserves no CPU, so it does not wait for running tasks to end. The answer comes as JSON: nothing that the cluster
    says is unpickled here.

    :param args: its arguments; object URIs arrive as the objects.
    :param timeout: seconds to wait; None waits without limit.
    :param ray_options: as for :meth:`RayClient.submit`.
    :raises AirflowRayError: as :meth:`RayClient.submit` and :meth:`RayClient.wait`.
    """
    with client.connect(), temporary_uri(client) as uri:
        with pickle_by_value([cluster]):
            options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "result": "value", "ray_options": ray_options}
            client.submit(function, *args, uri=uri, **options)
        client.wait(uri, timeout)
        (end,) = client.follow(uri)
        return end.value


def head_of(client: RayClient, uri: ObjectURI, rows: int, width: int) -> str:
    """Return the first rows of an object as text, made on the cluster: the object itself stays there.

    :param rows: how many rows, or items of what is no table.
    :param width: how many characters a line of a table may have.
    :raises AirflowRayError: as :func:`run_errand`.
    """
    return str(run_errand(client, preview, uri, rows, width))


def checkpoint(client: RayClient, uri: ObjectURI) -> str:
    """Write the checkpoint of an object that has none, as its task would have done, and return where it lies.

    A worker of the cluster reads the object and writes it; meanwhile the object store holds it twice. Within a task,
    Airflow is told of it, where later tasks look for it.

    :raises RayConfigurationError: no path for checkpoints is set.
    :raises AirflowRayError: as :meth:`RayClient.submit` and :meth:`RayClient.wait`.
    """
    with client.connect(), temporary_uri(client) as of_errand:
        location = checkpoint_of(client.link, uri) or require_location(client.settings)
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_retries": 0,
            "multiple_outputs": True,
            "checkpoint": True,
            "checkpoint_path": location.path,
            "checkpoint_source": location.aws_conn_id,
        }
        with pickle_by_value([cluster]):
            client.submit(output_of_name, uri.key, uri, uri=of_errand, checkpointed_as=uri, **options)
        record = client.wait(of_errand)
        if in_task():
            tell(location, uri)
        return str(record["outputs"][uri.key]["checkpoint"]["path"])


@contextmanager
def temporary_uri(client: RayClient) -> Iterator[ObjectURI]:
    """Give an object URI that nobody else uses, and release what it names at the end."""
    uri = ObjectURI(client.conn_id, DAG_ID, uuid.uuid4().hex, "errand")
    try:
        yield uri
    finally:
        # What went wrong before is what the user should read.
        with suppress(AirflowRayError):
            client.release(uri)


def without_checkpoint(held: list[dict[str, Any]]) -> list[str]:
    """Return the URIs of the objects that have no checkpoint; work may have left none, but a value in XCom.

    :param held: as :meth:`~airflow_ray.client.client.RayClient.list_objects` returns it.
    """
    objects = (each for each in held if each["state"] == State.SUCCEEDED and each["bytes"] is not None)
    return [each["uri"] for each in objects if each["checkpoint"] is None]
