"""How a task tells the ones after it where its checkpoints lie: in an XCom, which others may write too.

So it is signed. Whoever may write XComs could else name any place, and an AWS connection whose credentials the cluster
would get.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import pull_xcom, push_xcom, states_of
from airflow_ray.client.checkpoints.credentials import telling_keys
from airflow_ray.client.checkpoints.location import CheckpointLocation, find_location
from airflow_ray.exceptions import RayCheckpointSignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.settings import RaySettings
    from airflow_ray.object_uri import ObjectURI

log = logging.getLogger(__name__)

XCOM_KEY = "ray_checkpoint"
_NOT_TOLD = (
    "Airflow takes no XCom for %s here: it is of no task instance, or of an iteration of a loop. Its checkpoint is "
    "written, but other tasks may not find it by themselves: load it with S3CheckpointHook"
)


def told(location: CheckpointLocation, uri: ObjectURI) -> dict[str, str | None]:
    """Return what the task that makes ``uri`` tells of where its checkpoints lie, as plain data without any secret."""
    plain = location.as_xcom()
    return {**plain, "signature": _signature(plain, telling_keys(uri.work)[0])}


def tell(location: CheckpointLocation, uri: ObjectURI) -> None:
    """Tell in the place of the task that made ``uri`` where its checkpoint lies; only within a task.

    Airflow forgets it when that task runs again, as it does what the task has told itself. Of an object that no task
    of Airflow's has made, of a run that was deleted, or, behind a loop, of one of its iterations nobody can be told: a
    warning says so.
    """
    place: Any = {"dag_id": uri.dag_id, "run_id": uri.run_id, "task_id": uri.task_id, "map_index": uri.map_index}
    with _behind_loops(uri):
        if states_of(**place):
            push_xcom(XCOM_KEY, told(location, uri), **place)
            return
    log.warning(_NOT_TOLD, uri)


def of_producer(uri: ObjectURI, settings: RaySettings) -> CheckpointLocation | None:
    """Return where the task that made ``uri`` has told that its checkpoint is; only within a task.

    :param settings: of the Ray connection. What it says itself needs no signature: earlier releases gave none.
    :raises RayCheckpointSignatureError: somebody else has told it.
    """
    found = None
    with _behind_loops(uri):
        found = pull_xcom(XCOM_KEY, dag_id=uri.dag_id, run_id=uri.run_id, task_id=uri.task_id, map_index=uri.map_index)
    if not found:
        return None
    fields = found if isinstance(found, dict) else {}
    plain = {name: fields.get(name) for name in ("path", "aws_conn_id")}
    signature = str(fields.get("signature")).encode(errors="replace")
    if any(hmac.compare_digest(signature, _signature(plain, key).encode()) for key in telling_keys(uri.work)):
        return CheckpointLocation(**plain)  # type: ignore[arg-type]  # as it was signed
    # Of another iteration Airflow gives the XCom of the one that runs.
    if uri.region:
        return None
    location = find_location(settings)
    if location is not None and location.as_xcom() == plain:
        return location
    raise RayCheckpointSignatureError(
        f"The XCom {XCOM_KEY!r} of the task that makes {uri} names {str(plain['path'])[:200]!r} and the AWS connection "
        f"{str(plain['aws_conn_id'])[:200]!r} for its checkpoint. It is not signed with the Fernet key of this "
        f"Airflow, and the connection {settings.conn_id!r} and Airflow's configuration say something else, so nothing "
        "was read there: somebody has changed the XCom, the key is another one, or an earlier release of airflow-ray "
        "wrote it. Clear that task"
    )


@contextmanager
def _behind_loops(uri: ObjectURI) -> Iterator[None]:
    """Go on where Airflow refuses the XCom of an iteration: behind its loop it gives and takes none."""
    try:
        yield
    # Which error it is depends on how the task is run.
    except Exception as error:
        if not uri.region:
            raise
        log.info("Airflow refuses the XCom of %s: %s", uri, error)


def _signature(plain: dict[str, Any], key: str) -> str:
    return hmac.new(bytes.fromhex(key), json.dumps(plain, sort_keys=True).encode(), hashlib.sha256).hexdigest()
