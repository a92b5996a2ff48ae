"""A task that runs until it is killed, one that fails and one that skips itself."""

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


def skip():
    # As a callable imports it that runs on any release of Airflow.
    from airflow.providers.common.compat.sdk import AirflowSkipException

    raise AirflowSkipException("nothing to do")


with DAG("long_task", schedule=None, params={"pid_file": ""}):
    RayPythonOperator(task_id="sleep", python_callable=sleep, op_args=["{{ params.pid_file }}"])

with DAG("failing_task", schedule=None):
    RayPythonOperator(task_id="fail", python_callable=fail)

with DAG("skipping_task", schedule=None):
    RayPythonOperator(task_id="skip", python_callable=skip)
