"""Run Python on a Ray cluster from Apache Airflow."""

from airflow_ray.cluster.airflow_exceptions import skip

__all__ = ["skip"]
__version__ = "0.1.0"
