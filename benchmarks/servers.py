"""The Ray head that the benchmarks run on, and the connections to it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from airflow_ray.cluster.gateway.settings import GatewaySettings
from tools.ray_cluster import RayHead

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER = "benchmark_driver"
CLIENT = "benchmark_client"
GATEWAY = "benchmark_gateway"
# How the process of the owner is called; those of other actors and tasks have other names.
OWNER_PROCESS = "ray::Owner"
ROOT = Path(__file__).parent.parent


@contextmanager
def ray_head(
    object_store_bytes: int = 1_000_000_000, num_cpus: int | None = None, with_gateway: bool = False
) -> Iterator[RayHead]:
    """Run a head which two Airflow connections lead to, and a third where it has a gateway.

    :param num_cpus: so many idle workers Ray keeps for all jobs together; None for as many as this machine has CPUs.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    # What the contestants without the hook run is found there by name.
    environment = {"PYTHONPATH": str(ROOT)}
    head = RayHead(
        num_cpus=num_cpus or os.cpu_count() or 1, environment=environment, object_store_bytes=object_store_bytes
    )
    os.environ[f"AIRFLOW_CONN_{DRIVER.upper()}"] = head.driver_uri
    os.environ[f"AIRFLOW_CONN_{CLIENT.upper()}"] = head.client_uri
    try:
        if with_gateway:
            os.environ[f"AIRFLOW_CONN_{GATEWAY.upper()}"] = head.gateway_uri
        yield head
    finally:
        head.stop()


def gateway_process(head: RayHead) -> psutil.Process:
    """Return the process of the gateway that :func:`ray_head` has started."""
    settings = GatewaySettings(str(Path(head.temp_dir, "gateway")))
    return psutil.Process(json.loads(settings.note.read_text())["pid"])
