"""What a job has left in a file of its node, on its way into the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.client.errand import run_errand
from airflow_ray.client.jobs.attempts import RESULT_VARIABLE, result_path
from airflow_ray.cluster.worker.job_result import read_job_result, remove_job_results

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.client import RayClient

REMOVE_SECONDS = 30.0


class Reading(NamedTuple):
    """A call that reads the result of a job, on the node that has it.

    :param function: the callable.
    :param args: its arguments.
    :param options: of :meth:`RayClient.submit`.
    """

    function: Callable[..., Any]
    args: tuple[str, str]
    options: dict[str, Any]


def reading_of(job: str, node_id: str, runtime_env: dict[str, Any]) -> Reading:
    """Return what reads the result of a job.

    :param node_id: of the node that its entrypoint ran on.
    :param runtime_env: that of the job: what its script has pickled may be of modules that it brought.
    """
    options = {"num_cpus": 0, "num_gpus": 0, "memory": None, "resources": None, "runtime_env": runtime_env}
    return Reading(read_job_result, (result_path(job), RESULT_VARIABLE), {**options, "ray_options": _on_node(node_id)})


def remove_results(client: RayClient, name: str, node_id: str) -> None:
    """Remove what the jobs of one name have left on a node.

    :raises AirflowRayError: it cannot be reached, for example.
    """
    path, on_node = result_path(name), _on_node(node_id)
    run_errand(client, remove_job_results, path, timeout=REMOVE_SECONDS, ray_options=on_node)


def _on_node(node_id: str) -> dict[str, Any]:
    return {"scheduling_strategy": {"class": "NodeAffinitySchedulingStrategy", "node_id": node_id, "soft": False}}
