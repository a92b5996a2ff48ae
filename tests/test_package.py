"""The package as a whole: what Airflow is told, what the wheel holds."""

from __future__ import annotations

import configparser
import os
import pickle
import re
import runpy
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import airflow_ray
from airflow_ray import exceptions
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.provider_info import get_provider_info

PACKAGE = Path(airflow_ray.__file__).parent
ROOT = PACKAGE.parent


def output_of(script: str, *command: str) -> str:
    arguments = [*(command or [sys.executable]), "-c", script]
    # Not in this checkout, which would come before what is installed.
    return subprocess.run(arguments, capture_output=True, text=True, check=True, cwd="/").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["operators.python", "decorators", "sensors.object", "hooks.ray", "xcom", "triggers", "operators.kuberay"]
)
def test_module_can_be_imported_first_where_the_backend_is_set(name):
    environment = {**os.environ, "AIRFLOW__CORE__XCOM_BACKEND": "airflow_ray.xcom.RayXComBackend"}
    command = [sys.executable, "-c", f"import airflow_ray.{name}; from airflow.sdk.execution_time.xcom import XCom"]
    subprocess.run(command, env=environment, check=True, cwd="/")


def test_provider_info_names_classes_that_exist():
    info = get_provider_info()
    paths = [each["hook-class-name"] for each in info["connection-types"]]
    paths += [each["class-name"] for each in info["task-decorators"]]
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_each_templated_field_is_an_attribute():
    operator = RayPythonOperator(task_id="task", python_callable=print)
    assert [name for name in RayPythonOperator.template_fields if not hasattr(operator, name)] == []


@pytest.mark.parametrize("package", ["apache-airflow", "apache-airflow-providers-common-compat", "pyarrow", "ray"])
def test_oldest_release_that_is_allowed_is_the_one_that_is_tested(package):
    allowed = re.search(rf"^    {package}(\[.*\])?>=(.*)$", (PACKAGE.parent / "setup.cfg").read_text(), re.MULTILINE)
    tested = re.search(rf"^{package}==(.*)$", (PACKAGE.parent / "constraints-oldest.txt").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(allowed[2])}(\.0)*", tested[1])


def test_exceptions_survive_pickling():
    classes = [
        each for each in vars(exceptions).values() if isinstance(each, type) and each.__module__ == exceptions.__name__
    ]
    for cls in classes:
        error = cls("a", "b", "c") if cls is exceptions.RayTaskFailedError else cls("a")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_version_is_that_of_the_newest_release_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert releases[0] == airflow_ray.__version__
    assert re.findall(r"^## (.*)$", changelog, re.MULTILINE)[0] == "[Unreleased]"


def test_changelog_is_grouped_and_its_lines_are_short():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    groups = {line for line in lines if line.startswith("### ")}
    assert groups <= {f"### {name}" for name in ("Added", "Changed", "Deprecated", "Fixed", "Removed", "Security")}
    assert [line for line in lines if len(line) > 120] == []


def test_environment_of_developers_has_all_extras():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = re.search(r"constraints\.txt -e '\.\[(.*)\]'", (ROOT / "Makefile").read_text())[1]
    # The site is built in an environment of its own.
    assert sorted([*installed.split(","), "docs"]) == sorted(config["options.extras_require"])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/pull_request_template.md"])
def test_commands_of_make_that_are_shown_are_there(name):
    shown = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / name).read_text(), re.MULTILINE))
    there = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shown - set(there) == set()


def test_links_on_pypi_lead_to_the_files_of_the_release():
    made = runpy.run_path(str(ROOT / "setup.py"))["long_description"]("https://example.com/team/project", "1.2.3")
    links = re.findall(r"\]\(([^)]+)\)", made)
    assert [link for link in links if not link.startswith("https://")] == []
    assert "(https://example.com/team/project/blob/v1.2.3/docs/reference/connection.md)" in made
    assert "](https://example.com/team/project/raw/v1.2.3/benchmarks/results/handover.png)" in made
    assert "[Ray](https://ray.io)" in made


def test_without_an_address_of_the_repository_pypi_shows_no_link_that_leads_nowhere():
    made = runpy.run_path(str(ROOT / "setup.py"))["long_description"](None, "1.2.3")
    assert [link for link in re.findall(r"\]\(([^)]+)\)", made) if not link.startswith("https://")] == []
    assert "| know whom you trust with what | Security |" in made


def test_setup_reads_the_version_without_the_package():
    assert runpy.run_path(str(ROOT / "setup.py"))["version"]() == airflow_ray.__version__


@pytest.mark.parametrize("name", ["hooks.ray", "operators.python", "decorators", "sensors.object"])
def test_with_airflow_2_an_import_says_what_is_missing(name, tmp_path):
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").write_text("__version__ = '2.11.2'")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", f"import airflow_ray.{name}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert "This is Airflow 2.11.2; airflow-ray needs Apache Airflow 3.1.1 or newer" in ended.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the built wheel; its other packages are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(PACKAGE.parent)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    site_packages = Path(output_of("import sysconfig; print(sysconfig.get_path('purelib'))", str(python)).strip())
    (site_packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.mark.slow
def test_wheel_brings_the_package_and_its_type_marker(installed_wheel):
    script = "import airflow_ray, pathlib; print(*pathlib.Path(airflow_ray.__file__).parent.glob('py.typed'))"
    assert str(installed_wheel.parent.parent) in output_of(script, str(installed_wheel))


@pytest.mark.slow
def test_wheel_shows_provider_connection_type_and_decorator(installed_wheel):
    script = (
        "from airflow.providers_manager import ProvidersManager\n"
        "from airflow.sdk import task\n"
        "manager = ProvidersManager()\n"
        "print('airflow-ray' in manager.providers, manager.hooks['ray'].hook_name, task.ray.__name__)\n"
    )
    assert output_of(script, str(installed_wheel)).splitlines()[-1] == "True Ray ray_task"


@pytest.mark.slow
def test_wheel_brings_the_page_with_its_files(installed_wheel):
    script = (
        "from airflow.plugins_manager import get_fastapi_plugins\n"
        "from airflow_ray.ui.rendering import FOLDER\n"
        "names = [each['name'] for each in get_fastapi_plugins()[0]]\n"
        "files = FOLDER / 'templates/run.html', FOLDER / 'static/page.js'\n"
        "print(names.count('Ray page'), *(each.exists() for each in files))\n"
    )
    assert output_of(script, str(installed_wheel)).splitlines()[-1] == "1 True True"
