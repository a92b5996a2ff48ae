"""The page and Airflow's rights to runs, task instances, XComs and logs: each keeps what it is for, and no more."""

from __future__ import annotations

import pytest

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.ui.conftest import SAME_ORIGIN, run_address
from tests.ui.managers import who_may_not

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def uri(shared_run, dag):
    return ObjectURI("ray_gateway", dag.dag_id, shared_run.run_id, "count")


@pytest.fixture
def answers(browser_of, shared_run, dag, uri, log):
    """Return what somebody is answered for each address, by its name; nothing of it changes anything."""

    def answers_for(name):
        browser, of_run = browser_of("user", name), run_address(shared_run, dag.dag_id)
        of_task, query = f"{of_run}/tasks/count/-1", {"uri": str(uri)}
        return {
            "run": browser.get(of_run),
            "task": browser.get(of_task),
            "rows": browser.get(f"{of_task}/rows", params=query),
            "release": browser.get(f"{of_run}/release", params=query),
            "cancel": browser.get(f"{of_task}/cancel", params=query),
        }

    return answers_for


@pytest.mark.parametrize(
    ("method", "entity", "closed"),
    [
        ("GET", "RUN", {"run"}),
        ("GET", "TASK_INSTANCE", {"task"}),
        ("GET", "XCOM", {"rows"}),
        ("GET", "TASK_LOGS", set()),
        ("PUT", "RUN", {"release"}),
        ("PUT", "TASK_INSTANCE", {"cancel"}),
    ],
)
def test_right_that_is_missing_closes_what_it_is_for(answers, method, entity, closed):
    told = answers(who_may_not(method, entity))
    assert {name for name, answer in told.items() if answer.status_code == 403} == closed
    assert {answer.status_code for answer in told.values()} <= {200, 403}


def test_whoever_has_all_rights_is_shown_all(answers):
    told = answers("somebody")
    assert ["Rows</a" in told["run"].text, "Release…" in told["run"].text] == [True, True]
    shown = ("First rows", ">make</a>", "Release…", "line &lt;299&gt;")
    assert [each in told["task"].text for each in shown] == [True] * 4


def test_values_and_inputs_are_left_out_for_who_may_not_read_xcoms(answers):
    told = answers(who_may_not("GET", "XCOM"))
    assert "Rows</a" not in told["run"].text
    assert ["First rows" in told["task"].text, ">make</a>" in told["task"].text] == [False, False]
    assert "An object that you may not see" in told["task"].text


def test_log_is_left_out_for_who_may_not_read_logs(answers):
    told = answers(who_may_not("GET", "TASK_LOGS"))
    assert ["SUCCEEDED" in told["task"].text, "line &lt;299&gt;" in told["task"].text] == [True, False]


def test_release_is_left_out_for_who_may_not_edit_runs(answers):
    told = answers(who_may_not("PUT", "RUN"))
    assert ["Release…" in told["run"].text, "Release…" in told["task"].text] == [False, False]


@pytest.mark.parametrize(("action", "entity"), [("release", "RUN"), ("cancel", "TASK_INSTANCE")])
def test_without_the_right_nothing_is_done(browser_of, shared_run, dag, uri, action, entity):
    browser = browser_of("user", who_may_not("PUT", entity))
    of_run = run_address(shared_run, dag.dag_id)
    address = {"release": of_run, "cancel": f"{of_run}/tasks/count/-1"}[action]
    answer = browser.post(f"{address}/{action}", data={"uri": str(uri)}, headers=SAME_ORIGIN)
    assert (answer.status_code, RayHook("ray_gateway").get(uri)) == (403, 1000)
