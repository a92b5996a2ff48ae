"""The connection as people see it: its form and Test button in a browser, and its secrets nowhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from airflow_ray.client.connection.head_process import free_ports
from tests.certificates import Authority
from tests.ray_head import RayHead
from tools.standalone import StandaloneAirflow

CHROMIUM = shutil.which("chromium")
DAGS = Path(__file__).parent.parent / "dags"
TOKEN = "a-token-of-the-tests-5c1d7e92b3f4a860"
OF_CONNECTION = "swordfish-of-the-connection"
OF_TASK = "swordfish-of-the-task"
RESULT_MILLISECONDS = 300_000
# What the form has is tested beside the hook, what is masked beside what sends it.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strict_head(authority):
    head = RayHead(**authority.environment(), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    yield head
    head.stop()


@pytest.fixture(scope="module")
def tls_fields(authority):
    return authority.fields()


@pytest.fixture(scope="module")
def airflow(strict_head, tls_fields, s3, airflow_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    shutil.copy(DAGS / "tells_secrets.py", folder / "dags")
    extra = {
        **tls_fields,
        # The text itself, which can leak.
        "tls_key": Path(tls_fields["tls_key"]).read_text(),
        "runtime_env": {"env_vars": {"OF_CONNECTION": OF_CONNECTION}},
        "checkpoint_path": f"s3://{s3.new_bucket()}/checkpoints",
        "checkpoint_conn_id": "s3",
        # As the connections of the other heads have it.
        "connect_timeout": 180,
    }
    connection = {"conn_type": "ray", "host": "127.0.0.1", "port": strict_head.ports[1]}
    environment = {
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({**connection, "password": TOKEN, "extra": extra}),
        "AIRFLOW_CONN_S3": s3.connection(),
        "AIRFLOW_VAR_GREETING": OF_TASK,
        **airflow_database,
    }
    with StandaloneAirflow(folder / "home", folder / "dags", environment) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def told(airflow):
    """A run of the DAG whose tasks tell all they know."""
    run_id = airflow.trigger("tells_secrets")
    assert airflow.wait("tells_secrets", run_id, timeout=500) == "failed"
    return run_id


@pytest.fixture
def secrets(tls_fields, s3):
    key = Path(tls_fields["tls_key"]).read_text().splitlines()[1]
    return [TOKEN, key, OF_CONNECTION, OF_TASK, json.loads(s3.connection())["password"]]


def test_log_shows_stars_in_place_of_secrets(airflow, told):
    log = airflow.log("tells_secrets", told, "tell")
    assert "OF_CONNECTION is ***." in log
    assert "OF_TASK is ***." in log


def test_traceback_shows_stars_in_place_of_secrets(airflow, told):
    assert "Nothing but ['***', '***']" in airflow.log("tells_secrets", told, "fail")


def test_all_but_the_failing_task_succeed(airflow, told):
    states = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in airflow.task_instances("tells_secrets", told)}
    assert states == {
        ("tell", -1): "success",
        ("tell_deferred", -1): "success",
        ("fail", -1): "failed",
        ("tell_mapped", 0): "success",
        ("tell_mapped", 1): "success",
    }


def test_no_log_of_airflow_holds_a_secret(airflow, told, secrets):
    files = [path for path in (airflow.home / "logs").rglob("*") if path.is_file()]
    leaks = [(path.name, secret) for path in files for secret in secrets if secret in path.read_text(errors="replace")]
    assert any("tell_deferred" in str(path) and ".trigger." in path.name for path in files)
    assert leaks == []


@pytest.fixture
def database(airflow):
    engine = create_engine(airflow.database)
    with engine.connect() as database:
        yield database
    engine.dispose()


def test_database_of_airflow_holds_no_secret(database, told, secrets):
    tables = inspect(database).get_table_names()
    rows = [row for table in tables for row in database.exec_driver_sql(f'SELECT * FROM "{table}"')]
    values = [str(bytes(value) if isinstance(value, memoryview) else value) for row in rows for value in row]
    assert any("ray-object://" in value for value in values)
    assert [value[:100] for value in values for secret in secrets if secret in value] == []


def test_rendered_templates_show_stars(database, told):
    rendered = database.exec_driver_sql(
        "SELECT task_id, CAST(rendered_fields AS TEXT) FROM rendered_task_instance_fields"
    ).fetchall()
    shown = {task_id: json.loads(fields)["runtime_env"]["env_vars"]["OF_TASK"] for task_id, fields in rendered}
    assert shown == dict.fromkeys(["tell", "tell_deferred", "fail", "tell_mapped"], "***")


@pytest.fixture(scope="module")
def page(airflow):
    """The page with the connections."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(RESULT_MILLISECONDS)
        yield page
        browser.close()


in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def created(airflow, page, strict_head, tls_fields):
    """A connection that was made in the form."""
    page.goto(f"{airflow.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill("ray_by_hand")
    form.get_by_role("combobox").fill("Ray")
    page.get_by_role("option", name="Ray", exact=True).click()
    for name, value in {"host": "127.0.0.1", "port": str(strict_head.ports[1]), "password": TOKEN}.items():
        form.locator(f"input[name={name}]").fill(value)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, value in tls_fields.items():
        form.locator(f"#element_{name}").fill(value)
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="detached")
    return "ray_by_hand"


def pressed_test(page) -> str:
    """Press Test and return the title and the text that come up."""
    page.get_by_role("button", name="Test Connection").click()
    toast = page.locator("[data-scope=toast][data-part=root]", has_text="Test Connection")
    toast.get_by_text("Test Connection").first.wait_for()
    return toast.first.inner_text()


@in_browser
def test_test_button_says_what_was_found(page, created):
    text = pressed_test(page)
    assert "Test Connection Successful" in text
    assert "1 node: 4 CPU" in text


@in_browser
def test_test_button_says_why_a_wrong_port_fails(page, airflow, created):
    page.goto(f"{airflow.url}/connections")
    page.get_by_role("button", name="Edit Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=port]").fill(str(free_ports(1)[0]))
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="detached")
    page.goto(f"{airflow.url}/connections")
    text = pressed_test(page)
    assert "Test Connection Failed" in text
    assert "Connection refused. Check host and port" in text
