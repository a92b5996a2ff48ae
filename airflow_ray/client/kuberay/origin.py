"""Whose a cluster is: what is written on it, and read again by whoever wants to use it or take it away."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client.run_cluster import (
    DAG_ANNOTATION,
    INSTALLATION_LABEL,
    RUN,
    RUN_ANNOTATION,
    dag_name,
    installation,
    run_name,
)
from airflow_ray.exceptions import RayClusterForeignError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Labels, by which clusters are found. Kubernetes lets few characters be in them, so they hold names made from the ids.
DAG_LABEL = "airflow-ray/dag"
RUN_LABEL = "airflow-ray/run"
TASK_LABEL = "airflow-ray/task"
# Annotations: the id as it is; the try of a task that has made or found the cluster last; since when it is kept for
# objects of which a checkpoint could not be written.
TASK_ANNOTATION = "airflow-ray/task-id"
HOLDER_ANNOTATION = "airflow-ray/held-by"
KEPT_ANNOTATION = "airflow-ray/kept-since"

_LABEL_LENGTH = 63
_DIGEST_LENGTH = 8


class Origin(NamedTuple):
    """Who made a cluster.

    :param run_id: None for a cluster that several runs share.
    """

    dag_id: str
    run_id: str | None
    task_id: str

    @classmethod
    def of(cls, name: str, dag_id: str, run_id: str, task_id: str) -> Origin:
        """Return that of a cluster to be made, which is for one run if its name is.

        :param name: with ``{run}`` or ``{dag}`` still in it.
        """
        return cls(dag_id, run_id if RUN in name or run_name(dag_id, run_id) in name else None, task_id)

    @property
    def labels(self) -> dict[str, str]:
        """What is written on the cluster to find it by.

        :raises RayConfigurationError: this Airflow has no valid Fernet key.
        """
        labels = {INSTALLATION_LABEL: installation(), DAG_LABEL: dag_name(self.dag_id)}
        if self.run_id is not None:
            labels[RUN_LABEL] = run_name(self.dag_id, self.run_id)
        return {**labels, TASK_LABEL: _label_of(self.task_id)}

    @property
    def annotations(self) -> dict[str, str]:
        """What is written on the cluster to be read."""
        run = {} if self.run_id is None else {RUN_ANNOTATION: self.run_id}
        return {DAG_ANNOTATION: self.dag_id, **run, TASK_ANNOTATION: self.task_id}


class Made(NamedTuple):
    """A cluster that the task which has made it takes away if it fails.

    :param name: of the cluster, and ``uid`` its uid.
    :param holder: the id of the task's try; None in what an earlier release has deferred.
    :param is_shared: whether other runs may use it.
    """

    name: str
    uid: str
    holder: str | None = None
    is_shared: bool = False

    def is_held(self, cluster: Mapping[str, Any]) -> bool:
        """Return whether a cluster of this name is this one, and no later try of the task has found it since."""
        holder = _annotations(cluster).get(HOLDER_ANNOTATION)
        is_of_this_try = self.is_shared or holder is None or self.holder in (None, holder)
        return uid_of(cluster) == self.uid and is_of_this_try

    def resume(self) -> dict[str, Any]:
        """Return this as plain data for the task that goes on; earlier releases know the first of both only."""
        return {"made": [self.name, self.uid], "held": [self.holder, self.is_shared]}

    @classmethod
    def of_resume(cls, resume: Mapping[str, Any]) -> Made | None:
        """Return what :meth:`resume` has returned before, or None where nothing was made."""
        return cls(*resume["made"], *resume.get("held", ())) if resume.get("made") else None


def own_clusters() -> str:
    """Return the label selector of all clusters that this Airflow installation has made."""
    return f"{INSTALLATION_LABEL}={installation()}"


def name_of(cluster: Mapping[str, Any]) -> str:
    """Return the name of a cluster."""
    return str(cluster["metadata"]["name"])


def namespace_of(cluster: Mapping[str, Any]) -> str:
    """Return the namespace of a cluster."""
    return str(cluster["metadata"]["namespace"])


def uid_of(cluster: Mapping[str, Any]) -> str:
    """Return what tells a cluster from others that have had, or will have, its name."""
    return str(cluster["metadata"]["uid"])


def run_of(cluster: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return DAG id and run id of the run that a cluster was made for, or None for one that several share."""
    annotations = _annotations(cluster)
    dag_id, run_id = annotations.get(DAG_ANNOTATION), annotations.get(RUN_ANNOTATION)
    return None if dag_id is None or run_id is None else (dag_id, run_id)


def kept_since(cluster: Mapping[str, Any]) -> datetime | None:
    """Return since when a cluster is kept for objects of which a checkpoint could not be written, or None."""
    written = _annotations(cluster).get(KEPT_ANNOTATION)
    return None if written is None else datetime.fromisoformat(written)


def made_at(cluster: Mapping[str, Any]) -> datetime:
    """Return when a cluster was made."""
    return datetime.fromisoformat(cluster["metadata"]["creationTimestamp"].replace("Z", "+00:00"))


def require_own(cluster: Mapping[str, Any]) -> None:
    """Make sure that this Airflow installation has made a cluster.

    :raises RayClusterForeignError: it has not.
    """
    maker = (cluster["metadata"].get("labels") or {}).get(INSTALLATION_LABEL)
    if maker == installation():
        return
    who = "somebody else has made it" if maker is None else f"another Airflow installation ({maker}) has made it"
    raise RayClusterForeignError(
        f"There is a Ray cluster {name_of(cluster)} in the namespace {namespace_of(cluster)}, and {who}: it is neither "
        f"used nor deleted by this one ({installation()}). Give the cluster of this DAG another name or namespace. The "
        "id is made from the Fernet key: if that was replaced, delete the cluster by hand"
    )


def _annotations(cluster: Mapping[str, Any]) -> Mapping[str, str]:
    return cluster["metadata"].get("annotations") or {}


def _label_of(text: str) -> str:
    """Return a text as the value of a label: as it is if it may be one."""
    plain = re.sub("[^A-Za-z0-9_.-]+", "-", text).strip("-_.")
    if plain == text and len(plain) <= _LABEL_LENGTH:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{plain[: _LABEL_LENGTH - _DIGEST_LENGTH - 1]}-{digest}".lstrip("-")
