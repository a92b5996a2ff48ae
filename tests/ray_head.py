"""A Ray head whose processes cannot import this package, as on a cluster where nobody has installed it."""

from __future__ import annotations

from pathlib import Path

from tools import ray_cluster

WITHOUT_PACKAGE = {"PYTHONPATH": str(Path(__file__).parent / "without_airflow_ray")}


class RayHead(ray_cluster.RayHead):
    """A head with 4 CPUs and 2 of a resource named gadget."""

    def __init__(
        self,
        ports: tuple[int, int] | None = None,
        object_store_bytes: int = ray_cluster.OBJECT_STORE_BYTES,
        **environment: str,
    ) -> None:
        super().__init__(
            ports,
            resources={"gadget": 2},
            environment={**WITHOUT_PACKAGE, **environment},
            object_store_bytes=object_store_bytes,
        )
