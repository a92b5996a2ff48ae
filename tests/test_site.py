"""The site: what has to be on its pages is there, and blocks that are no Python are what they seem to be.

That links and tables hold, ``make docs`` finds out; blocks of Python run in ``tests/test_documents.py``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import Connection

from airflow_ray import exceptions, hooks, kuberay_triggers, operators, sensors, triggers
from airflow_ray.__main__ import parser_of_commands
from airflow_ray._compat import BaseHook, BaseOperator
from airflow_ray.client.connection.settings import settings_of
from airflow_ray.provider_info import get_provider_info
from tests.certificates import Authority
from tests.kubernetes.schema import crd_file, faults, untypable
from tests.test_documents import DOCS, PAGES, ROOT

PACKAGE = Path(exceptions.__file__).parent
CONNECTION = re.compile(r"AIRFLOW_CONN_(RAY_\w+)=(\"[^\"]*\"|'[^']*')")


def blocks(language: str) -> list[Any]:
    found = [(page, re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.M | re.S)) for page in PAGES]
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page, of_page in found
        for number, block in enumerate(of_page)
    ]


def text(page: str) -> str:
    return (DOCS / page).read_text()


def test_each_exception_has_its_entry_under_its_name():
    public = [name for name, each in vars(exceptions).items() if inspect.isclass(each) and name.endswith("Error")]
    entries = re.findall(
        r"^### (\w+)\n\n```\{entry\} \1\n```\n\n\*\*Check:\*\* .*?\n\n\*\*What to do:\*\* ",
        text("operate/errors.md"),
        re.M | re.S,
    )
    assert sorted(entries) == sorted(public)
    assert len(set(entries)) == len(entries)


def test_each_example_has_a_run_or_a_reason_why_not():
    assert [*json.loads(text("examples/runs.json"))] == sorted(file.stem for file in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize(
    "package", [operators, sensors, hooks, triggers, kuberay_triggers], ids=lambda each: each.__name__
)
def test_each_public_class_is_in_the_reference(package):
    found = pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}.")
    modules = [package, *(importlib.import_module(each.name) for each in found if "openlineage" not in each.name)]
    classes = {
        f"{each.__module__}.{name}"
        for module in modules
        for name, each in vars(module).items()
        if inspect.isclass(each)
        and each.__module__ == module.__name__
        and not name.startswith("_")
        and (issubclass(each, BaseOperator | BaseHook) or name.endswith("Trigger"))
    }
    shown = set(re.findall(r"autoclass:: ([\w.]+)", text("reference/api.md")))
    # What the operators derive from besides is no class to use.
    assert classes - shown - {"airflow_ray.operators.base.RayOperator"} == set()


def test_each_field_of_the_connection_is_explained():
    (connection,) = get_provider_info()["connection-types"]
    page = text("reference/connection.md")
    assert [name for name in connection["conn-fields"] if f"`{name}`" not in page] == []


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_is_a_manifest_as_kubernetes_takes_it(block):
    for each in yaml.safe_load_all(block):
        if "kind" not in each:
            # The values of a chart.
            assert isinstance(each, dict)
            continue
        assert each["apiVersion"]
        assert each["metadata"]["name"]
        if each["kind"] == "RayCluster" and crd_file("rayclusters"):
            assert faults("rayclusters", each) == []
            assert untypable("rayclusters", each) == []


@pytest.mark.parametrize("block", blocks("json"))
def test_json_is_json(block):
    assert json.loads(block)


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands_of_the_shell_are_such(block):
    checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert checked.stderr == ""


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_commands_of_the_package_are_taken_by_its_parser(page):
    command = r"^(?: {4})?(?:\$ )?(?:airflow ray|python -m airflow_ray) ([a-z][^|#\n]*)"
    for arguments in re.findall(command, page.read_text(), re.MULTILINE):
        parser_of_commands().parse_args(shlex.split(arguments))


def test_connections_are_such_as_are_taken(tmp_path):
    Authority(tmp_path).sign("airflow")
    shown = [each for page in PAGES for each in CONNECTION.findall(page.read_text())]
    assert len(shown) > 10
    for name, quoted in shown:
        text = re.sub(r'\$TOKEN|\bTOKEN\b|(?<=")…(?=")', "a" * 32, quoted[1:-1]).replace("/etc/ray", str(tmp_path))
        is_json = text.startswith("{")
        made = Connection.from_json(text, conn_id=name) if is_json else Connection(conn_id=name, uri=text)
        assert settings_of(made).mode


def test_log_lines_are_those_of_the_code():
    """Each shown line, between the parts that are filled in, is in one text of the package."""
    texts = [
        " ".join(node.value.split())
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    shown = re.findall(r"^\| `([^`]+)` \|", text("operate/log_lines.md"), re.M)
    parts = [part.strip() for line in shown for part in line.split("…") if len(part.strip()) > 3]
    assert [part for part in parts if not any(part in each for each in texts)] == []
