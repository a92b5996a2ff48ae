"""Callables of a DAG file that use helper modules of the DAG folder."""

from airflow.sdk import DAG
from helpers.cleaning import Cleaner

from airflow_ray.operators.python import RayPythonOperator


def clean():
    return Cleaner(0)


def use(cleaner):
    from helpers.late import clean_later

    return cleaner.clean(clean_later([0, None, 1]))


with DAG("with_helpers", schedule=None):
    cleaner = RayPythonOperator(task_id="clean", python_callable=clean)
    RayPythonOperator(task_id="use", python_callable=use, op_args=[cleaner.output], result="value")
