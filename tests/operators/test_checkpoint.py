"""checkpoint=True of the operator and the decorator, in DAG runs with a real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from airflow.sdk import DAG, task

from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.operators.python import RayPythonOperator
from tests.checkpointing import CONNECTION, Cluster, connection_of, make_frame, total
from tests.dag_runs import run_dag

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.head.stop()


@pytest.fixture
def cluster(running_cluster, monkeypatch, bucket) -> Cluster:
    """A cluster whose connection says nothing of checkpoints."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", connection_of(running_cluster.head, "gateway"))
    return running_cluster


@pytest.fixture
def dag(cluster, bucket):
    return DAG(
        dag_id=f"dag_{uuid.uuid4().hex}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        default_args={"ray_conn_id": CONNECTION},
        params={"bucket": bucket},
    )


def checkpointed(**options):
    return RayPythonOperator(
        task_id="make",
        python_callable=make_frame,
        op_args=[100],
        **{
            "checkpoint": True,
            "checkpoint_source": "{{ 's3' }}",
            "checkpoint_path": "s3://{{ params.bucket }}/of/task",
            **options,
        },
    )


def losing(dag):
    """Return a plain task in which what the Ray tasks have made is lost, but not its checkpoints."""

    @task
    def lose():
        RayHook(CONNECTION).release(dag_id=dag.dag_id)

    return lose()


def use(made, task_id="use"):
    return RayPythonOperator(task_id=task_id, python_callable=total, op_args=[made.output], result="value")


@pytest.mark.slow
def test_next_task_gets_its_input_after_the_loss_of_the_cluster(dag, cluster, capfd):
    with dag:
        made = checkpointed()
        made >> task(cluster.lose)() >> use(made)
    run = run_dag(dag)
    assert run.xcom("use") == 4950
    assert "Inputs: 1 from the checkpoint" in capfd.readouterr().out


def test_checkpoint_lies_under_the_templated_path(dag, bucket):
    with dag:
        checkpointed()
    run = run_dag(dag)
    hook = S3CheckpointHook("s3", f"s3://{bucket}/of/task")
    assert [str(uri) for uri in hook.list()] == [run.xcom("make")]


def test_decorated_task_is_checkpointed(dag, bucket):
    @ray_task(checkpoint=True, checkpoint_source="s3", checkpoint_path=f"s3://{bucket}")
    def made():
        return [1, 2, 3]

    @ray_task(result="value")
    def used(numbers):
        return sum(numbers)

    with dag:
        numbers = made()
        numbers >> losing(dag) >> used(numbers)
    assert run_dag(dag).xcom("used") == 6


def test_mapped_tasks_are_checkpointed_each(dag, bucket):
    with dag:
        made = RayPythonOperator.partial(
            task_id="make",
            python_callable=make_frame,
            checkpoint=True,
            checkpoint_source="s3",
            checkpoint_path=f"s3://{bucket}",
        ).expand(op_args=[[10], [20]])
        used = RayPythonOperator(
            task_id="use",
            python_callable=lambda frames: [len(frame) for frame in frames],
            op_args=[made.output],
            result="value",
        )
        made >> losing(dag) >> used
    assert run_dag(dag).xcom("use") == [10, 20]


def test_plain_task_gets_a_lost_object_through_the_hook(dag):
    @task
    def rows(uri):
        return len(RayHook(CONNECTION).get(uri))

    with dag:
        made = checkpointed()
        got = rows(made.output)
        made >> losing(dag) >> got
    assert run_dag(dag).xcom("rows") == 100


def test_checkpoint_of_an_earlier_run_of_the_task_is_not_taken(dag, cluster, bucket, monkeypatch):
    path = f"s3://{bucket}/shared"
    connection = connection_of(cluster.head, "gateway", checkpoint_path=path, checkpoint_conn_id="s3")
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", connection)

    @task
    def write_as_if_earlier(uri):
        S3CheckpointHook("s3", path).save(uri, make_frame(1))

    with dag:
        made = checkpointed(checkpoint=False)
        write_as_if_earlier(made.output) >> losing(dag) >> use(made)
    run = run_dag(dag)
    assert run.task_states("use") == ["failed"]


def test_failed_checkpoint_fails_the_task(dag):
    with dag:
        checkpointed(checkpoint_path="s3://no-such-bucket")
    assert run_dag(dag).task_states("make") == ["failed"]


def test_best_effort_checkpoint_that_fails_is_a_warning(dag, capfd):
    with dag:
        checkpointed(checkpoint_path="s3://no-such-bucket", checkpoint="best-effort")
    assert run_dag(dag).task_states("make") == ["success"]
    assert "No checkpoint was written" in capfd.readouterr().out


def test_pickle_in_place_of_arrow_is_said_in_the_log(dag, capfd):
    with dag:
        RayPythonOperator(
            task_id="make",
            python_callable=lambda: __import__("pandas").DataFrame({"a": [1, "x"]}),
            checkpoint=True,
            checkpoint_source="s3",
            checkpoint_path="s3://{{ params.bucket }}",
        )
    run_dag(dag)
    assert (
        "stored as a pickle, since Arrow does not hold an object column of int, str exactly" in capfd.readouterr().out
    )


def test_secrets_are_in_no_log(dag, capfd):
    with dag:
        made = checkpointed()
        made >> losing(dag) >> use(made)
    run_dag(dag)
    log = capfd.readouterr().out
    assert "Checkpoint: pandas" in log
    assert "test-secret-key" not in log


def test_checkpoint_of_a_value_is_refused():
    with pytest.raises(RayConfigurationError, match="result='value'"):
        RayPythonOperator(task_id="task", python_callable=total, checkpoint=True, result="value")


def test_unknown_kind_of_checkpoint_is_refused():
    with pytest.raises(RayConfigurationError, match="'best-effort'"):
        RayPythonOperator(task_id="task", python_callable=total, checkpoint="always")
