"""What is asked of a cluster for the page, and the answers as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_ray.client.doctor import first_lines
from airflow_ray.client.used import used_text
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import RayConnectionError
from airflow_ray.object_uri import RETURN_VALUE, ObjectURI

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ray.client.client import RayClient
    from airflow_ray.client.connection.clusters import Cluster as ClusterOf
    from airflow_ray.ui.asking import LookingClient

PREVIEW_ROWS = 10
# For an answer that there is none yet to come in time.
PREVIEW_SECONDS = 2.0
# What people know under another name than Ray's, and how it is counted.
RESOURCES = {"CPU": "CPUs", "GPU": "GPUs", "memory": "memory", "object_store_memory": "object store"}
IN_BYTES = ("memory", "object_store_memory")


@dataclass(frozen=True)
class HeldObject:
    """An object, or work that has made none yet.

    :param rows: of a table or an array, where they are known, and so are ``columns``.
    :param node: the address of the node that it lies on.
    :param age: seconds since it was made, or since the work was submitted.
    :param checkpoint: where its checkpoint lies.
    :param detail: what the work waits for.
    :param inputs: the objects that the work was given.
    :param used_by: the work that was given it, of those that were asked for at the same time.
    """

    uri: ObjectURI
    state: str
    type: str | None
    rows: int | None
    columns: int | None
    bytes: int | None
    node: str | None
    age: float
    checkpoint: str | None
    spilled: bool
    detail: str | None
    inputs: tuple[ObjectURI, ...] = ()
    used_by: tuple[ObjectURI, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether there is something to look at."""
        return self.state == State.SUCCEEDED and self.type is not None

    @property
    def goes_on(self) -> bool:
        """Whether the work that makes it has not ended."""
        return not State(self.state).is_final


@dataclass(frozen=True)
class Work:
    """What the owner knows of the work of one task instance.

    :param described: the answer of ``describe``.
    :param objects: what it has made, or itself where that is nothing yet.
    :param inputs: each with where it came from: ``store``, ``lineage`` or ``checkpoint``.
    """

    uri: ObjectURI
    described: dict[str, Any]
    objects: list[HeldObject]
    inputs: list[tuple[ObjectURI, str]]

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return not State(self.described["state"]).is_final

    @property
    def used(self) -> str | None:
        """What it has used of the cluster, in words, once it has ended."""
        return used_text(self.described)


@dataclass(frozen=True)
class Resource:
    """What a cluster has of a resource, and what of it is free."""

    name: str
    total: float
    free: float
    is_bytes: bool


@dataclass(frozen=True)
class Cluster:
    """The state of a cluster, and what is in it: the largest first, and what waits.

    :param is_empty: nothing of anybody is held there, and no work waits or runs.
    :param problem: why nobody knows what is held there.
    """

    ray: str
    python: str
    nodes: int
    resources: list[Resource]
    held: list[HeldObject]
    waiting: list[HeldObject]
    is_empty: bool
    problem: str | None

    @property
    def bytes(self) -> int:
        """The bytes of all that is held."""
        return total_bytes(self.held)


def total_bytes(objects: Iterable[HeldObject]) -> int:
    """Return the bytes of objects together, as far as they are known."""
    return sum(each.bytes or 0 for each in objects)


def objects_of(client: RayClient, dag_id: str | None = None, run_id: str | None = None) -> list[HeldObject]:
    """Return what a cluster holds of a run, or in all, with who uses what of it, by task."""
    entries = [_held(each) for each in client.list_objects(dag_id, run_id)]
    users: dict[ObjectURI, dict[ObjectURI, None]] = {}
    for each in entries:
        for used in each.inputs:
            users.setdefault(used, {})[each.uri.with_key(RETURN_VALUE)] = None
    with_users = [replace(each, used_by=tuple(users.get(each.uri, ()))) for each in entries]
    return sorted(with_users, key=lambda each: (each.uri.task_id, each.uri.map_index, each.uri.region, each.uri.key))


def work_of(client: RayClient, dag_id: str, run_id: str, task_id: str, map_index: int) -> list[Work]:
    """Return what the owner knows of the work of one task instance; a task in a loop has several pieces of it."""
    entries = objects_of(client, dag_id, run_id)
    own = [each for each in entries if (each.uri.task_id, each.uri.map_index) == (task_id, map_index)]
    names = dict.fromkeys(each.uri.work for each in own)
    return [_work(client, [each for each in own if each.uri.work == name]) for name in names]


def clusters_of(client: LookingClient) -> list[ClusterOf] | None:
    """Return the clusters that a connection leads to, the latest first, or None where nobody tells which there are.

    :raises RayConnectionError: Kubernetes does not tell.
    """
    if client.link.connection.kubernetes_conn_id is None:
        return None
    return [each.settings.cluster for each in reversed(client.each(None, None))]


def cluster_of(client: LookingClient, dag_ids: set[str]) -> Cluster:
    """Return the state of a cluster, and what it holds of these DAGs."""
    seen = client.survey()
    found, problem = [], None
    try:
        found = objects_of(client)
    except RayConnectionError as error:
        problem = first_lines(error)
    objects = [each for each in found if each.uri.dag_id in dag_ids]
    held = [each for each in objects if not each.goes_on and each.bytes is not None]
    return Cluster(
        ray=seen["ray"],
        python=seen["python"],
        nodes=seen["nodes"],
        resources=_resources(seen["total"], seen["free"]),
        held=sorted(held, key=lambda each: -(each.bytes or 0)),
        waiting=sorted((each for each in objects if each.goes_on), key=lambda each: -each.age),
        is_empty=not found and problem is None,
        problem=problem,
    )


def preview_of(client: RayClient, uri: ObjectURI) -> dict[str, Any]:
    """Return the columns and first rows of an object, see :meth:`RayClient.sample`."""
    return client.sample(uri, PREVIEW_ROWS, PREVIEW_SECONDS)


def _work(client: RayClient, objects: list[HeldObject]) -> Work:
    uri = objects[0].uri.with_key(RETURN_VALUE)
    described = client.describe(uri)
    inputs = [
        (ObjectURI.of_record(uri.conn_id, each["record_id"], each["key"]), each["source"])
        for each in described.get("inputs", ())
    ]
    return Work(uri, described, objects, inputs)


def _held(entry: dict[str, Any]) -> HeldObject:
    own = {name: value for name, value in entry.items() if name in HeldObject.__dataclass_fields__}
    inputs = tuple(ObjectURI.parse(each) for each in entry["inputs"])
    return HeldObject(**{**own, "uri": ObjectURI.parse(entry["uri"]), "inputs": inputs})


def _resources(total: dict[str, float], free: dict[str, float]) -> list[Resource]:
    """Return the resources that people know, and those of their own; not those that Ray gives each node for itself."""
    names = [name for name in RESOURCES if name in total]
    names += sorted(name for name in total if name not in RESOURCES and not name.startswith(("node:", "accelerator")))
    return [Resource(RESOURCES.get(name, name), total[name], free.get(name, 0.0), name in IN_BYTES) for name in names]
