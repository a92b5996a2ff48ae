"""Run Python on a Ray cluster from Apache Airflow."""

from airflow_ray.cluster.airflow_exceptions import skip

__all__ = ["skip"]
__version__ = "1.0.0rc1"
