"""What of a connection works, and what to do about the rest."""

from airflow_ray.client.doctor.diagnosis import XCOM_BACKEND, Finding, diagnose, summary
from airflow_ray.client.doctor.readable import first_lines, quantity, readable_bytes, readable_seconds

__all__ = [
    "XCOM_BACKEND",
    "Finding",
    "diagnose",
    "first_lines",
    "quantity",
    "readable_bytes",
    "readable_seconds",
    "summary",
]
