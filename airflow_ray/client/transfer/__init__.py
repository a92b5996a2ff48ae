"""Values between a process of Airflow and the cluster."""
