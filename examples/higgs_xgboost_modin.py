"""Train XGBoost on the HIGGS data, of any size, with functions of a notebook: load, split, train, validate.

The functions are those of ``higgs_steps.py``, as they are. The frames are Modin's: their parts lie on all nodes of the
cluster, and no process holds all rows. ``path`` is a URL or a file that all nodes see. ``generate_higgs.py`` writes the
file that it names by default.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Param
from generate_higgs import DEFAULT_PATH
from higgs_steps import load, split, train, validate

from airflow_ray.operators.python import RayPythonOperator

with DAG(
    dag_id="higgs_xgboost_modin",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params={
        "path": Param(DEFAULT_PATH, type="string", description="CSV file or URL, also .gz, without a heading"),
        "num_actors": Param(2, type="integer", minimum=1),
        "cpus_per_actor": Param(1, type="integer", minimum=1),
        "num_boost_round": Param(50, type="integer", minimum=1),
    },
    # Modin's Ray tasks and the actors reserve the CPUs; the tasks that start them only wait.
    default_args={"num_cpus": 0},
    render_template_as_native_obj=True,
    tags=["ray", "example"],
    doc_md=__doc__,
):
    loaded = RayPythonOperator(task_id="load", python_callable=load, op_args=["{{ params.path }}"])

    parts = RayPythonOperator(task_id="split", python_callable=split, op_args=[loaded.output], multiple_outputs=True)

    trained = RayPythonOperator(
        task_id="train",
        python_callable=train,
        op_kwargs={
            "frame": parts.output["train"],
            "num_actors": "{{ params.num_actors }}",
            "cpus_per_actor": "{{ params.cpus_per_actor }}",
            "num_boost_round": "{{ params.num_boost_round }}",
        },
    )

    RayPythonOperator(
        task_id="validate",
        python_callable=validate,
        op_args=[trained.output, parts.output["test"]],
        result="value",
    )
