"""Tasks that a person looks at: a wide table with odd names, and work that goes on until somebody ends it."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_ray.decorators import ray_task


@ray_task
def wide():
    import pandas as pd

    frame = pd.DataFrame([[f"row {row}", "日本語", *range(198)] for row in range(1000)])
    frame.columns = ["<script>document.title = 'taken over'</script>", "größe 🚀", *map(str, range(198))]
    print("a wide table is made")
    return frame


@ray_task
def count(frame):
    return {"rows": len(frame)}


@ray_task(num_cpus=2)
def goes_on(rows):
    import time

    print("it has begun", flush=True)
    while True:
        time.sleep(0.1)


@ray_task(ray_conn_id="ray_down", retries=0)
def cannot_begin():
    return 1


with DAG("on_page", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    goes_on(count(wide()))
    cannot_begin()
