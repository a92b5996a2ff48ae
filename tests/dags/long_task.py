"""A task that runs until it is killed, and one that fails."""

import os
import time

from airflow.sdk import DAG

from airflow_ray.operators.python import RayPythonOperator


def sleep(pid_file):
    with open(pid_file, "w") as file:
        file.write(str(os.getpid()))
    print("sleeping on the cluster")
    time.sleep(600)


def fail():
    raise ValueError("of the user")


with DAG("long_task", schedule=None, params={"pid_file": ""}):
    RayPythonOperator(task_id="sleep", python_callable=sleep, op_args=["{{ params.pid_file }}"])

with DAG("failing_task", schedule=None):
    RayPythonOperator(task_id="fail", python_callable=fail)
