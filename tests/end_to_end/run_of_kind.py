"""Runs a DAG of each kind that the command line names, in a process that needs no Ray, and tells what came of them.

The first argument is a folder for their files. It prints, as JSON in its last line and by kind, the state of the run,
what the DAG is there to show, and whether Ray was loaded by then.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

from airflow.sdk import DAG, task

from airflow_ray.__main__ import main as command
from airflow_ray.client import deferral
from airflow_ray.client.doctor import diagnose
from airflow_ray.decorators import ray_task
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.release import RayReleaseOperator
from airflow_ray.operators.tune import RayTuneOperator
from airflow_ray.sensors.object import RayObjectSensor
from tests.dag_runs import DagRunResult, new_dag, run_dag

CONN_ID = "ray_gateway"
FOLDER, *KINDS = sys.argv[1:]


def make_frame(rows: int = 10) -> Any:
    import pandas as pd

    return pd.DataFrame({"a": range(rows)})


def total(frame: Any) -> int:
    return int(frame["a"].sum())


def halves(frame: Any) -> dict[str, Any]:
    return {"first": frame[:5], "second": frame[5:]}


def parabola(config: dict[str, float]) -> None:
    from ray import tune

    tune.report({"loss": (config["x"] - 3) ** 2})


def decorated(dag: DAG) -> DagRunResult:
    with dag:
        summed = RayPythonOperator(
            task_id="sum",
            python_callable=total,
            op_args=[ray_task(make_frame, task_id="make")(10)],
            result="value",
        )
        RayReleaseOperator(task_id="release", ray_conn_id=CONN_ID).as_teardown() << summed
    return run_dag(dag)


def several_outputs(dag: DAG) -> DagRunResult:
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame)
        parts = RayPythonOperator(task_id="split", python_callable=halves, op_args=[made.output], multiple_outputs=True)
        RayPythonOperator(task_id="sum", python_callable=total, op_args=[parts.output["second"]], result="value")
    return run_dag(dag)


def mapped(dag: DAG) -> DagRunResult:
    with dag:
        frames = RayPythonOperator.partial(task_id="make", python_callable=make_frame).expand(op_args=[[4], [7]])
        RayPythonOperator(
            task_id="sum", python_callable=lambda made: sum(map(total, made)), op_args=[frames.output], result="value"
        )
    return run_dag(dag)


def deferred(dag: DAG) -> DagRunResult:
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, deferrable=True)
        RayPythonOperator(task_id="sum", python_callable=total, op_args=[made.output], deferrable=True, result="value")
    return run_dag(dag)


def sensors(dag: DAG) -> DagRunResult:
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame)
        poked = RayObjectSensor(task_id="poke", object_uri=made.output)
        awaited = RayObjectSensor(task_id="await", object_uri=made.output, deferrable=True)
        summed = RayPythonOperator(task_id="sum", python_callable=total, op_args=[made.output], result="value")
        poked >> awaited >> summed
    return run_dag(dag)


def released(dag: DAG) -> DagRunResult:
    def held(run: str) -> int:
        return len(RayHook(CONN_ID).list_objects(dag.dag_id, run))

    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame)
        free = RayReleaseOperator(task_id="release", ray_conn_id=CONN_ID)
        made >> free >> task(held, task_id="sum")("{{ run_id }}")
    return run_dag(dag)


def plain_tasks(dag: DAG) -> DagRunResult:
    with dag:
        made = task(make_frame, task_id="make")(10)
        doubled = ray_task(lambda frame: frame * 2, task_id="double")(made)
        task(total, task_id="sum")(doubled)
    return run_dag(dag)


def searched(dag: DAG) -> DagRunResult:
    with dag:
        tuned = RayTuneOperator(
            task_id="tune",
            trainable=parabola,
            param_space={"x": {"grid_search": [3]}},
            metric="loss",
            mode="min",
            storage_path=f"{FOLDER}/search",
            report_path=f"{FOLDER}/report.html",
        )
        task(lambda found: found["best_config"]["x"], task_id="sum")(tuned.output)
    return run_dag(dag)


def checkpointed(dag: DAG) -> DagRunResult:
    def lose(text: str) -> str:
        uri = ObjectURI.parse(text)
        RayHook(CONN_ID).release(uri)
        return text

    with dag:
        made = RayPythonOperator(
            task_id="make",
            python_callable=make_frame,
            checkpoint=True,
            checkpoint_path=f"file://{FOLDER}/checkpoints",
        )
        lost = task(lose, task_id="lose")(made.output)
        RayPythonOperator(task_id="sum", python_callable=total, op_args=[lost], result="value")
    return run_dag(dag)


def traced(dag: DAG) -> DagRunResult:
    """Make a frame and its checkpoint, lose the frame, use what is restored, and fail with another."""

    def lose(text: str) -> str:
        RayHook(CONN_ID).release(ObjectURI.parse(text))
        return text

    def fail(frame: Any) -> None:
        raise ValueError(f"{len(frame)} rows are too few")

    with dag:
        to_folder = {"checkpoint": True, "checkpoint_path": f"file://{FOLDER}/checkpoints"}
        made = ray_task(make_frame, task_id="make", deferrable=True, **to_folder)()
        lost = task(lose, task_id="lose")(made)
        parts = RayPythonOperator(task_id="split", python_callable=halves, op_args=[lost], multiple_outputs=True)
        RayPythonOperator(task_id="fail", python_callable=fail, op_args=[parts.output["first"]])
        RayPythonOperator(task_id="sum", python_callable=total, op_args=[parts.output["second"]], result="value")
    return run_dag(dag)


def read_by_hook(dag: DAG) -> DagRunResult:
    def fetched(text: str) -> int:
        with RayHook(CONN_ID).connect() as hook:
            frame = hook.get(text)
            copy = hook.put(frame, uri=ObjectURI.parse(text).with_key("copy"))
            return total(hook.get(copy))

    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[200_000])
        task(fetched, task_id="sum")(made.output)
    return run_dag(dag)


def checks(dag: DAG) -> str:
    """Use what is no DAG: the Test button, the doctor and the command line."""
    is_good, text = RayHook(CONN_ID).test_connection()
    assert is_good, text
    assert [each for each in diagnose(CONN_ID) if each.outcome == "failed"] == []
    command(["objects", "--conn-id", CONN_ID])
    return "checked"


def main() -> None:
    # There is no scheduler that a deferral would have to wait for.
    deferral.MAX_SETTLE_SECONDS = 0.0
    # As work that lasts.
    base.SHORT_SECONDS = 0.0
    told = {}
    for kind in KINDS:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            run = globals()[kind](new_dag(params={}))
        print(output.getvalue())
        of_run = {"state": run} if isinstance(run, str) else {"state": run.state, "sum": run.xcom("sum")}
        told[kind] = {**of_run, "ray": "ray" in sys.modules}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
