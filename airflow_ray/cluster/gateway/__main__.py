"""``python -m airflow_ray.cluster.gateway``."""

from airflow_ray.cluster.gateway.command import main

if __name__ == "__main__":
    main()
