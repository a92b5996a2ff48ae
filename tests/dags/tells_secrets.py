"""Tasks that print what they should not, and one that fails with it."""

from airflow.sdk import DAG

from airflow_ray.operators.python import RayPythonOperator


def tell(number, names):
    import os

    for name in names:
        print(f"{name} is {os.environ[name]}.")
    return number + 1


def tell_late(number, names):
    """Tell when the task is deferred, as that of work which lasts for ten seconds is."""
    import os
    import time

    time.sleep(15)
    for name in names:
        print(f"{name} is {os.environ[name]}.")


def fail(number, names):
    import os

    raise RuntimeError(f"Nothing but {[os.environ[name] for name in names]}")


OPTIONS = {
    "op_args": [1, ["OF_CONNECTION", "OF_TASK"]],
    "runtime_env": {"env_vars": {"OF_TASK": "{{ var.value.greeting }}"}},
    "checkpoint": True,
    "retries": 0,
}

with DAG("tells_secrets", schedule=None):
    RayPythonOperator(task_id="tell", python_callable=tell, **OPTIONS)
    RayPythonOperator(task_id="tell_deferred", python_callable=tell_late, deferrable=True, **OPTIONS)
    RayPythonOperator(task_id="fail", python_callable=fail, **OPTIONS)
    RayPythonOperator.partial(task_id="tell_mapped", python_callable=tell, **OPTIONS).expand(num_cpus=[1, "0.5"])
