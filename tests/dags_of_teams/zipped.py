"""A DAG that comes in a zip file, together with a package of its own."""

from airflow.sdk import DAG
from zipped_helpers import doubling

from airflow_ray.operators.python import RayPythonOperator


def use(number):
    from zipped_helpers.late import increased

    return increased(doubling.double(number))


with DAG("zipped", schedule=None):
    double = RayPythonOperator(task_id="double", python_callable=doubling.double, op_args=[20])
    RayPythonOperator(task_id="use", python_callable=use, op_args=[double.output], result="value")
