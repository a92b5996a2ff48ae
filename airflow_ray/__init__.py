"""Run Python on a Ray cluster from Apache Airflow."""

__version__ = "0.1.0"
