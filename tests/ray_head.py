"""A Ray head whose processes cannot import this package, as on a cluster where nobody has installed it."""

from __future__ import annotations

import os
from pathlib import Path

from tools import ray_cluster

# Of the process that runs these tests, among those that run others at the same time, of the same run or of another.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RUN = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid():x}")[-6:], 16)
ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parent / "without_airflow_ray"),
    "TESTS_FIRST_CLIENT_PORT": str(20_000 + 200 * ((2 * RUN + WORKER) % 15)),
}


class RayHead(ray_cluster.RayHead):
    """A head with 4 CPUs and 2 of a resource named gadget."""

    def __init__(
        self,
        ports: tuple[int, int] | None = None,
        object_store_bytes: int = ray_cluster.OBJECT_STORE_BYTES,
        dashboard_port: int | None = None,
        **environment: str,
    ) -> None:
        super().__init__(
            ports,
            resources={"gadget": 2},
            environment={**ENVIRONMENT, **environment},
            object_store_bytes=object_store_bytes,
            dashboard_port=dashboard_port,
        )
