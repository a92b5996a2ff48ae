"""Names of clusters that are made for one DAG run, or for one DAG."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

from airflow_ray.client.fernet import keys_for
from airflow_ray.exceptions import RayClusterNotNamedError

#: What stands for the name of a run's cluster, and of a DAG's, in the host of a connection.
RUN, DAG = "{run}", "{dag}"
#: What Kubernetes keeps with a cluster: the label tells which Airflow has made it, the annotations for which ids.
INSTALLATION_LABEL = "airflow-ray/installation"
DAG_ANNOTATION, RUN_ANNOTATION = "airflow-ray/dag-id", "airflow-ray/run-id"
# Kubernetes takes 63 for a label, and KubeRay makes names of services and pods from that of a cluster.
MAX_LENGTH = 40
# 60 bits, in hexadecimal.
_HASH_LENGTH = 15
_INSTALLATION_LENGTH = 16


def installation() -> str:
    """Return an id of this Airflow installation: the same in each of its processes, and different in another Airflow.

    It is made from the Fernet key, which it does not tell. Of several keys, as there are while they are rotated, it is
    the last one: so the id changes when the old key is taken away, and not when the new one comes.

    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    keys = keys_for("airflow-ray installation", "The names of clusters are made with a key from Airflow's Fernet key")
    return keys[-1][:_INSTALLATION_LENGTH]


def run_name(dag_id: str, run_id: str) -> str:
    """Return the name of the cluster of a DAG run: a DNS label that begins with a letter.

    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    return _name(dag_id, run_id)


def dag_name(dag_id: str) -> str:
    """Return the name of the cluster that the runs of a DAG share: a DNS label that begins with a letter.

    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    return _name(dag_id)


def has_placeholder(template: str) -> bool:
    """Return whether a text names another cluster for each run, or for each DAG."""
    return RUN in template or DAG in template


def rendered(template: str, dag_id: str | None, run_id: str | None) -> str:
    """Return a text with the names in place of ``{run}`` and ``{dag}``; the rest of it is left alone.

    :param dag_id: None where no DAG is known.
    :param run_id: None where no run is known.
    :raises RayClusterNotNamedError: the text asks for a name of what is not known.
    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    text = template
    if dag_id is not None and run_id is not None and RUN in text:
        text = text.replace(RUN, run_name(dag_id, run_id))
    if dag_id is not None and DAG in text:
        text = text.replace(DAG, dag_name(dag_id))
    require_named(text)
    return text


def require_named(text: str) -> None:
    """Refuse a text in which something still stands for the name of a cluster.

    :raises RayClusterNotNamedError: it does.
    """
    if RUN in text:
        raise RayClusterNotNamedError(
            f"The connection leads to a Ray cluster of its own for each DAG run, {text!r}. Say which one is meant: "
            "name dag_id and run_id, or an object URI, which holds both"
        )
    if DAG in text:
        raise RayClusterNotNamedError(
            f"The connection leads to a Ray cluster of its own for each DAG, {text!r}. Say which one is meant: name "
            "dag_id, or an object URI, which holds it"
        )


def _name(*ids: str) -> str:
    # As JSON, so that no two lists of ids are one text, and each text has bytes.
    digest = hashlib.sha256(json.dumps([installation(), *ids]).encode()).hexdigest()[:_HASH_LENGTH]
    plain = unicodedata.normalize("NFKD", "-".join(ids)).encode("ascii", "ignore").decode().lower()
    slug = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    if not slug[:1].isalpha():
        slug = f"ray-{slug}"
    return f"{slug[: MAX_LENGTH - _HASH_LENGTH - 1].strip('-')}-{digest}"
