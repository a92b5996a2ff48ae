"""The page on a task instance: its work, the first rows of its objects, and its end by a person."""

from __future__ import annotations

import time

import pytest
from airflow.models.xcom import XComModel
from airflow.utils.log.log_reader import TaskLogReader
from airflow.utils.session import create_session

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.dashboard_link import RayDashboardLink
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.ui import records
from tests.dag_runs import new_dag, run_dag
from tests.ui.conftest import SAME_ORIGIN, run_address

pytestmark = pytest.mark.usefixtures("database")


def make_wide():
    import pandas as pd

    names = ["<script>alert(1)</script>", "größe 🚀", *map(str, range(198))]
    frame = pd.DataFrame([[f"<b>{row}</b>", "日本", *range(198)] for row in range(20)])
    frame.columns = names
    return frame


def make_unreadable():
    class Bad:
        def __repr__(self):
            raise ValueError("no <i>text</i> of it")

    return Bad()


def make_deadly():
    class Deadly:
        def __reduce__(self):
            import os

            return os._exit, (1,)

    return Deadly()


@pytest.fixture(scope="module")
def dag(head):
    with new_dag({}) as dag:
        made = RayPythonOperator(task_id="make", python_callable=make_wide, num_cpus=2)
        RayPythonOperator(task_id="count", python_callable=len, op_args=[made.output])
        RayPythonOperator(task_id="bad", python_callable=make_unreadable)
        RayPythonOperator(task_id="deadly", python_callable=make_deadly)
    return dag


@pytest.fixture(scope="module")
def run(dag, database):
    return run_dag(dag)


def task_address(run, dag, task_id, index="{MAP_INDEX}"):
    return f"{run_address(run, dag.dag_id)}/tasks/{task_id}/{index}"


def rows_of(browser, run, dag, task_id):
    uri = str(ObjectURI("ray_gateway", dag.dag_id, run.run_id, task_id))
    while True:
        answer = browser.get(f"{task_address(run, dag, task_id)}/rows", params={"uri": uri})
        if "data-again" not in answer.text:
            return answer


def test_work_is_shown_with_what_it_asked_for_and_has_used(user, run, dag):
    text = user.get(task_address(run, dag, "make")).text
    told = ("SUCCEEDED", "CPU 2", "It used at most", "DataFrame", "20 rows, 200 columns")
    assert [each for each in told if each not in text] == []


def test_work_is_shown_with_its_inputs(user, run, dag):
    text = user.get(task_address(run, dag, "count")).text
    assert "from the store" in text
    assert f'href="{task_address(run, dag, "make", -1)}"' in text


def test_first_rows_of_a_wide_table_are_shown_and_no_name_becomes_a_tag(user, run, dag):
    text = rows_of(user, run, dag, "make").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "&lt;b&gt;0&lt;/b&gt;" in text
    assert [each in text for each in ("größe 🚀", "日本", "20 rows", "200 columns by name and type")] == [True] * 4


def test_object_that_cannot_be_shown_tells_why(user, run, dag):
    text = rows_of(user, run, dag, "bad").text
    assert "It cannot be shown" in text or "no &lt;i&gt;text" in text or "Bad" in text
    assert "<i>text" not in text


def test_object_that_ends_whatever_reads_it_is_told_and_others_are_shown_still(user, run, dag):
    assert "It cannot be shown" in rows_of(user, run, dag, "deadly").text
    assert "20 rows" in rows_of(user, run, dag, "make").text


def test_object_that_is_gone_is_told(user, run, dag):
    text = rows_of(user, run, dag, "nothing_of_the_kind").text
    assert "It is not in the cluster" in text


@pytest.mark.parametrize(
    ("role", "name", "status"), [("viewer", "somebody", 200), ("admin", "stranger", 403), (None, "", 401)]
)
def test_first_rows_are_for_who_may_read_the_dag(browser_of, run, dag, role, name, status):
    answer = rows_of(browser_of(role, name), run, dag, "count")
    assert answer.status_code == status


def test_first_rows_of_another_task_are_not_shown_under_this_one(user, run, dag):
    uri = str(ObjectURI("ray_gateway", dag.dag_id, run.run_id, "make"))
    assert user.get(f"{task_address(run, dag, 'count')}/rows", params={"uri": uri}).status_code == 404


@pytest.mark.usefixtures("log")
def test_end_of_the_log_is_shown_escaped(user, run, dag):
    text = user.get(task_address(run, dag, "make")).text
    assert ["line &lt;99&gt;" in text, "line &lt;100&gt;" in text, "line &lt;299&gt;" in text] == [False, True, True]
    assert "<299>" not in text


@pytest.mark.usefixtures("log")
def test_log_that_cannot_be_read_is_told_and_the_rest_stays(user, run, dag, mocker):
    mocker.patch.object(TaskLogReader, "read_log_chunks", side_effect=OSError("no such machine"))
    text = user.get(task_address(run, dag, "make")).text
    assert "The log could not be read in time" in text
    assert "SUCCEEDED" in text


@pytest.fixture
def running(run, dag, tmp_path):
    """Work of a task of the run that goes on until a test ends it."""
    gate = tmp_path / "gate"

    def wait():
        while not gate.exists():
            time.sleep(0.05)

    uri = ObjectURI("ray_gateway", dag.dag_id, run.run_id, "going_on")
    with RayHook("ray_gateway").connect() as hook:
        hook.submit(wait, uri=uri)
        yield hook, uri
        gate.touch()
        hook.release(uri)


def test_running_work_is_cancelled_after_a_question(user, run, dag, running):
    hook, uri = running
    address = f"{task_address(run, dag, 'going_on', -1)}"
    assert "Cancel the work of going_on?" in user.get(f"{address}/cancel", params={"uri": str(uri)}).text
    assert hook.status(uri) in ("PENDING", "RUNNING")
    answer = user.post(f"{address}/cancel", data={"uri": str(uri)}, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?cancelled=True")
    assert hook.status(uri) == "CANCELLED"


@pytest.mark.parametrize(
    ("role", "headers", "status"), [("viewer", SAME_ORIGIN, 403), (None, SAME_ORIGIN, 401), ("user", {}, 403)]
)
def test_work_is_not_cancelled_by_who_may_not_edit_the_dag_nor_by_another_site(
    browser_of, run, dag, running, role, headers, status
):
    hook, uri = running
    address = f"{task_address(run, dag, 'going_on', -1)}/cancel"
    assert browser_of(role).post(address, data={"uri": str(uri)}, headers=headers).status_code == status
    assert hook.status(uri) in ("PENDING", "RUNNING")


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), (None, 401), ("user", 200)])
def test_question_whether_to_cancel_is_for_who_may_edit_the_dag(browser_of, run, dag, role, status):
    uri = str(ObjectURI("ray_gateway", dag.dag_id, run.run_id, "make"))
    answer = browser_of(role).get(f"{task_address(run, dag, 'make', -1)}/cancel", params={"uri": uri})
    assert answer.status_code == status


def test_dashboard_link_is_read_where_the_operators_write_it():
    assert RayDashboardLink().xcom_key == records.DASHBOARD_KEY


@pytest.mark.parametrize(
    ("told", "read"), [("http://ray:8265/#/jobs", "http://ray:8265/#/jobs"), ("javascript:x", None)]
)
def test_dashboard_is_linked_where_the_task_has_told_it(run, dag, told, read):
    with create_session() as session:
        XComModel.set(
            key=records.DASHBOARD_KEY, value=told, dag_id=dag.dag_id, task_id="make", run_id=run.run_id, session=session
        )
    assert records.dashboard_url(dag.dag_id, run.run_id, "make", -1) == read
