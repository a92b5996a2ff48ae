"""The page on a DAG run: what it shows to whom, and its release."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from html import unescape
from urllib.parse import quote

import httpx
import pytest
from markupsafe import escape

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.ui import records, runs
from tests.dag_runs import new_dag, run_dag
from tests.ui.conftest import SAME_ORIGIN, SERVER, make_frame, run_address

pytestmark = pytest.mark.usefixtures("database")

LINK = re.compile('href="([^"]*)"')
TOTAL = re.compile("In all: <strong>.*</strong>")
GONE = {"conn_type": "ray", "host": "127.0.0.1", "port": 9, "password": "a-token-of-16-characters"}


@pytest.fixture
def run(dag, database):
    """A run whose objects nobody has released yet."""
    return run_dag(dag)


def held(run, dag):
    return {
        ObjectURI.parse(each["uri"]).task_id for each in RayHook("ray_gateway").list_objects(dag.dag_id, run.run_id)
    }


def test_objects_are_shown_with_what_is_known_of_them(user, shared_run, dag):
    answer = user.get(run_address(shared_run, dag.dag_id))
    assert answer.status_code == 200
    row = answer.text.partition(">make</a>")[2].partition("</tr>")[0]
    assert [each in row for each in ("DataFrame", "1,000", "SUCCEEDED", "kB", ">count</a>")] == [True] * 5


@pytest.mark.parametrize(("role", "seen"), [("viewer", False), ("user", True), ("op", True), ("admin", True)])
def test_who_may_edit_the_dag_sees_the_release(browser_of, shared_run, dag, role, seen):
    answer = browser_of(role).get(run_address(shared_run, dag.dag_id))
    assert (answer.status_code, "Release" in answer.text) == (200, seen)


@pytest.mark.parametrize(
    ("role", "name", "status"), [(None, "", 401), ("viewer", "stranger", 403), ("admin", "stranger", 403)]
)
def test_who_may_not_read_the_dag_sees_nothing_of_it(browser_of, shared_run, dag, role, name, status):
    answer = browser_of(role, name).get(run_address(shared_run, dag.dag_id))
    assert answer.status_code == status
    assert "make" not in answer.text


def test_stranger_sees_nothing_of_the_dag_among_the_clusters(browser_of, shared_run, dag):
    assert dag.dag_id in browser_of("admin").get("/airflow_ray/").text
    assert dag.dag_id not in browser_of("admin", "stranger").get("/airflow_ray/").text


@pytest.mark.parametrize(("role", "shown"), [("viewer", False), ("user", False), ("op", True), ("admin", True)])
def test_clusters_are_those_whose_connections_one_may_see(browser_of, head, role, shown):
    answer = browser_of(role).get("/airflow_ray/")
    assert (answer.status_code, "ray_gateway" in answer.text) == (200, shown)


def test_clusters_tell_their_resources(browser_of, shared_run):
    text = browser_of("op").get("/airflow_ray/").text
    section = text.partition('">ray_gateway ')[2].partition("</section>")[0]
    assert [each in section for each in ("1 node", "CPUs", "object store", "gadget")] == [True] * 4


def test_release_asks_first_and_then_frees_the_objects_of_one_task(user, run, dag):
    address = run_address(run, dag.dag_id)
    uri = str(ObjectURI("ray_gateway", dag.dag_id, run.run_id, "make"))
    question = user.get(f"{address}/release", params={"uri": uri})
    assert "1 object " in question.text
    assert held(run, dag) == {"make", "count"}
    answer = user.post(f"{address}/release", data={"uri": uri}, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?released=1")
    assert held(run, dag) == {"count"}


def test_release_frees_all_objects_of_the_run_and_no_other(user, run, shared_run, dag):
    answer = user.post(f"{run_address(run, dag.dag_id)}/release", headers={"Origin": SERVER})
    assert answer.headers["location"].endswith("?released=2")
    assert (held(run, dag), held(shared_run, dag)) == (set(), {"make", "count"})


@pytest.mark.parametrize("role", [None, "viewer"])
def test_who_may_not_edit_the_dag_releases_nothing(browser_of, shared_run, dag, role):
    address = f"{run_address(shared_run, dag.dag_id)}/release"
    browser = browser_of(role)
    refused = 401 if role is None else 403
    assert [browser.get(address).status_code, browser.post(address, headers=SAME_ORIGIN).status_code] == [refused] * 2
    assert held(shared_run, dag) == {"make", "count"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example.com"},
     {"Origin": "null"}, {"Origin": SERVER, "Sec-Fetch-Site": "cross-site"}],
)  # fmt: skip
def test_what_another_site_sends_releases_nothing(user, shared_run, dag, headers):
    answer = user.post(f"{run_address(shared_run, dag.dag_id)}/release", headers=headers)
    assert (answer.status_code, "not sent by a page of this Airflow" in answer.text) == (403, True)
    assert held(shared_run, dag) == {"make", "count"}


def test_object_of_another_dag_is_not_released_through_a_run_that_one_may_edit(user, shared_run, dag):
    with RayHook("ray_gateway").connect() as hook:
        other = hook.put(1, uri=ObjectURI("ray_gateway", f"other_{uuid.uuid4().hex}", "run", "task"))
        address = f"{run_address(shared_run, dag.dag_id)}/release"
        assert user.post(address, data={"uri": str(other)}, headers=SAME_ORIGIN).status_code == 404
        assert hook.get(other) == 1


def test_connection_that_the_run_has_not_used_is_not_asked(user, shared_run, dag):
    uri = str(ObjectURI("ray_client", dag.dag_id, shared_run.run_id, "make"))
    answer = user.post(f"{run_address(shared_run, dag.dag_id)}/release", data={"uri": uri}, headers=SAME_ORIGIN)
    assert (answer.status_code, "has not used that connection" in answer.text) == (404, True)


def test_cluster_that_is_down_is_told_and_the_rest_stays(user, head, monkeypatch):
    extra = {"mode": "gateway", "connect_timeout": 0.5}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_GONE", json.dumps({**GONE, "extra": extra}))
    with new_dag({}) as dag:
        RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[10])
        RayPythonOperator(task_id="lost", python_callable=make_frame, op_args=[10], ray_conn_id="ray_gone")
    run = run_dag(dag)
    answer = user.get(run_address(run, dag.dag_id))
    assert answer.status_code == 200
    assert ">make</a>" in answer.text
    section = answer.text.partition(">ray_gone</h2>")[2].partition("</section>")[0]
    assert "127.0.0.1:9" in section
    released = user.post(f"{run_address(run, dag.dag_id)}/release", headers=SAME_ORIGIN)
    assert released.headers["location"].endswith("?released=1")


def test_long_run_is_shown_in_part_and_its_bytes_in_all(user, shared_run, dag, monkeypatch):
    whole = user.get(run_address(shared_run, dag.dag_id)).text
    monkeypatch.setattr(runs, "MAX_ROWS", 1)
    text = user.get(run_address(shared_run, dag.dag_id)).text
    assert ("and 1 more, which are not shown" in text, text.count("<tr>")) == (True, 2)
    assert TOTAL.findall(text) == TOTAL.findall(whole)
    question = user.get(f"{run_address(shared_run, dag.dag_id)}/release").text
    assert ("2 objects with" in question, "and 1 more, which are not shown" in question) == (True, True)


@pytest.fixture
def odd(head, monkeypatch):
    """An object whose connection, DAG, run and task have odd names, and whose run has used that connection."""
    conn_id = "odd/conn#1!(a)\\"
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", head.gateway_uri)
    monkeypatch.setattr(records, "connections_of", lambda *_: [conn_id])
    uri = ObjectURI(conn_id, "größe.日本", """100%41 %2F?<b>"'&+#a=1;""", "t.ä<i>")
    with RayHook(conn_id).connect() as hook:
        yield hook, hook.put([1], uri=uri)
        hook.release(uri)


@pytest.fixture
def send(page, user):
    """Send a request as a server passes it on: the test client decodes what is quoted twice."""

    async def answer(method, address, **more):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(page), base_url=SERVER, cookies=dict(user.cookies)
        ) as client:
            return await client.request(method, address, **more)

    return lambda *args, **more: asyncio.run(answer(*args, **more))


def test_odd_names_stay_what_they_are_through_all_pages(send, odd):
    hook, uri = odd
    address = f"/airflow_ray/dags/{quote(uri.dag_id)}/runs/{quote(uri.run_id, safe='')}"
    text = send("GET", address).text
    assert [each for each in (escape(uri.run_id), escape(uri.task_id)) if each not in text] == []
    assert [each for each in ("<b>", "<i>") if each in text] == []
    links = {unescape(each) for each in LINK.findall(text.partition("<main")[2])}
    # The page of the task, its first rows, its release, and that of all.
    assert len(links) == 4
    for link in links:
        answer = send("GET", link)
        assert (answer.status_code, "<i>" in answer.text) == (200, False)
        assert escape(uri.task_id) in answer.text
    released = send("POST", f"{address}/release", data={"uri": str(uri)}, headers=SAME_ORIGIN)
    assert (released.status_code, released.headers["location"]) == (303, f"{address}?released=1")
    assert "1 object released" in send("GET", released.headers["location"]).text
    assert hook.status(uri) == "LOST"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("dags/a/runs/b%2Fc", 404),
        ("dags/a%2Fb/runs/c", 404),
        ("dags/a/runs/b/tasks/t/99999999999999999999", 200),
        ("dags/a/runs/b/tasks/t/1_0", 200),
        ("dags/a/runs/b/tasks/t/rows", 200),
        ("dags/~/runs/b", 200),
        ("dags/a/runs/b?released=<script>", 422),
        ("dags/a/runs/b/tasks/t/-1/rows", 422),
        ("dags/a/runs/b/tasks/t/-1/rows?uri=<script>", 404),
        ("dags/a/runs/b/release?uri=ray-object://x", 404),
    ],
)
def test_address_that_leads_nowhere_is_told_in_words(user, path, status):
    answer = user.get(f"/airflow_ray/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "<script>" not in answer.text


def test_run_that_has_not_used_ray_says_so(user, database):
    assert "No task of this run has used Ray yet" in user.get("/airflow_ray/dags/some/runs/none").text


def test_page_is_shown_within_airflow_only_and_runs_no_script_but_its_own(user, shared_run, dag):
    policy = user.get(run_address(shared_run, dag.dag_id)).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg", "icon_dark.svg"])
def test_files_of_the_page_are_there(browser_of, name):
    assert browser_of(None).get(f"/airflow_ray/static/{name}").status_code == 200


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "app.py"])
def test_other_files_are_not(browser_of, name):
    assert browser_of(None).get(f"/airflow_ray/static/{name}").status_code == 404
