"""The Ray page inside Airflow's UI: what the clusters hold, of a run and of a task."""
