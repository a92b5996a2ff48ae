"""The Ray page as people use it: in a browser, inside Airflow's own UI, while the tasks of a run go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_ray.client.connection.head_process import free_ports
from tests.ray_head import RayHead
from tools.standalone import StandaloneAirflow

CHROMIUM = shutil.which("chromium")
DAGS = Path(__file__).parent.parent / "dags"
SEEN_MILLISECONDS = 300_000
PHONE = {"width": 375, "height": 700}
DESKTOP = {"width": 1300, "height": 900}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def head():
    head = RayHead(dashboard_port=free_ports(1)[0])
    yield head
    head.stop()


@pytest.fixture(scope="module")
def airflow(head, airflow_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    shutil.copy(DAGS / "on_page.py", folder / "dags")
    down = {"conn_type": "ray", "host": "127.0.0.1", "port": free_ports(1)[0], "password": "a-token-of-16-characters"}
    dashboard = f"http://127.0.0.1:{head.dashboard_port}"
    environment = {
        "AIRFLOW_CONN_RAY_DEFAULT": f"{head.gateway_uri}&dashboard_url={quote(dashboard, safe='')}",
        "AIRFLOW_CONN_RAY_DOWN": json.dumps({**down, "extra": {"mode": "gateway", "connect_timeout": 2}}),
        **airflow_database,
    }
    users = {"admin": "admin", "viewer": "viewer"}
    with StandaloneAirflow(folder / "home", folder / "dags", environment, users) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def run_id(airflow):
    """A run whose last task goes on."""
    return airflow.trigger("on_page", run_id="by_hand+1")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_of(airflow, browser):
    """Return a function that opens a browser in which a user has logged in."""

    def page(user, viewport=DESKTOP):
        context = browser.new_context(viewport=viewport)
        context.add_cookies([{"name": "_token", "value": airflow.token(user), "url": airflow.url}])
        page = context.new_page()
        page.set_default_timeout(SEEN_MILLISECONDS)
        return page

    return page


@pytest.fixture(scope="module")
def page(page_of):
    return page_of("admin")


@pytest.fixture(scope="module")
def run_address(airflow, run_id):
    return f"{airflow.url}/dags/on_page/runs/{quote(run_id)}"


def frame_of(page):
    return page.frame_locator("iframe[title=Ray]")


def row_of(page, task):
    return frame_of(page).locator("tbody tr", has=page.locator(f"th > a:text-is('{task}')"))


# The tests of this file follow one run from its first object to its release.


def test_objects_appear_while_the_tasks_of_the_run_go_on(page, run_address):
    page.goto(f"{run_address}/plugin/ray_run")
    row_of(page, "wide").get_by_text("DataFrame").wait_for()
    row_of(page, "count").get_by_text("SUCCEEDED").wait_for()
    row_of(page, "goes_on").get_by_text("RUNNING").wait_for()
    assert "goes_on" in row_of(page, "count").inner_text()


def test_cluster_that_is_down_is_told_beside_the_others(page, airflow, run_address):
    page.goto(f"{run_address}/plugin/ray_run")
    frame_of(page).get_by_text("The cluster cannot be asked").wait_for()
    page.goto(f"{airflow.url}/plugin/ray")
    down, up = (frame_of(page).locator("section", has_text=name) for name in ("ray_down", "ray_default"))
    down.get_by_text("NO ANSWER").wait_for()
    up.get_by_text("UP", exact=True).wait_for()
    up.get_by_role("rowheader", name="CPUs").wait_for()


def test_first_rows_of_an_object_are_opened_in_place_and_its_names_stay_text(page, run_address):
    page.goto(f"{run_address}/tasks/wide/plugin/ray_task")
    frame_of(page).get_by_text("First rows").click()
    table = frame_of(page).locator("table.values")
    table.get_by_role("columnheader", name="<script>document.title").wait_for()
    table.get_by_role("columnheader", name="größe 🚀").wait_for()
    assert table.get_by_role("row").count() == 11
    assert "taken over" not in page.title()


def test_log_and_resources_of_running_work_are_shown(page, run_address):
    page.goto(f"{run_address}/tasks/goes_on/plugin/ray_task")
    frame_of(page).get_by_text("it has begun").wait_for()
    assert "CPU 2" in frame_of(page).locator("dl").inner_text()


def test_dashboard_opens_beside_airflow(page, run_address):
    page.goto(f"{run_address}/tasks/goes_on/plugin/ray_task")
    link = frame_of(page).get_by_role("link", name="Ray dashboard")
    with page.context.expect_page() as opened:
        link.click()
    assert "/#/jobs/" in opened.value.url
    opened.value.close()


def test_page_takes_the_theme_of_airflow(page, run_address):
    page.goto(f"{run_address}/plugin/ray_run")
    row_of(page, "wide").wait_for()
    root = frame_of(page).locator("html")
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_selector(f"html.{theme}")
        frame_of(page).locator(f"html[data-theme={theme}]").wait_for()
        assert root.evaluate("each => getComputedStyle(each).colorScheme") == theme


def test_page_fits_a_phone(page_of, airflow, run_id):
    phone = page_of("admin", PHONE)
    for path in ("", f"dags/on_page/runs/{run_id}", f"dags/on_page/runs/{run_id}/tasks/wide/-1"):
        phone.goto(f"{airflow.url}/airflow_ray/{path}")
        phone.get_by_role("heading").first.wait_for()
        assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.context.close()


def test_who_may_not_edit_the_dag_is_offered_nothing_and_let_do_nothing(page_of, airflow, run_address, run_id):
    viewer = page_of("viewer")
    viewer.goto(f"{run_address}/plugin/ray_run")
    row_of(viewer, "wide").wait_for()
    assert "Release" not in frame_of(viewer).locator("body").inner_text()
    answer = viewer.goto(f"{airflow.url}/airflow_ray/dags/on_page/runs/{run_id}/release")
    assert answer.status == 403
    viewer.context.close()


def test_who_is_not_logged_in_sees_nothing(browser, airflow, run_id):
    context = browser.new_context()
    answer = context.new_page().goto(f"{airflow.url}/airflow_ray/dags/on_page/runs/{run_id}")
    assert answer.status == 401
    context.close()


def test_running_work_is_cancelled_with_the_keyboard(page, airflow, run_address, run_id):
    page.goto(f"{run_address}/tasks/goes_on/plugin/ray_task")
    cancel = frame_of(page).get_by_role("link", name="Cancel…")
    cancel.focus()
    page.keyboard.press("Enter")
    button = frame_of(page).get_by_role("button", name="Cancel the work")
    button.focus()
    page.keyboard.press("Enter")
    frame_of(page).get_by_text("The work was cancelled.").wait_for()
    assert airflow.wait("on_page", run_id, timeout=500) == "failed"


def test_objects_of_the_run_are_released_after_a_question(page, run_address):
    page.goto(f"{run_address}/plugin/ray_run")
    frame_of(page).get_by_role("link", name="Release all…").click()
    frame_of(page).get_by_text("2 objects with").wait_for()
    frame_of(page).get_by_role("button", name="Release").click()
    frame_of(page).get_by_text("2 objects released.").wait_for()
    frame_of(page).get_by_text("The cluster holds nothing of this run.").wait_for()


def test_api_server_has_not_imported_ray(airflow):
    maps = [Path(f"/proc/{process.pid}/maps") for process in airflow.processes("api-server", "api_server")]
    assert maps
    assert [path for path in maps if "/ray/_raylet" in path.read_text()] == []
