"""``python -m airflow_ray.hooks.local_head stop`` stops the embedded Ray head, ``status`` tells where it is."""

from __future__ import annotations

from airflow_ray.client.connection.local_head import main

if __name__ == "__main__":
    main()
